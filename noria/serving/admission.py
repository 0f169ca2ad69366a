"""Who may come in: what each client has inside, how fast it is worked off, and so how long the next one would wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from noria.serving.refusal import Refusal

_BODIES = 64
_REMEMBERED_S = 2.0  # of work: what was measured longer ago hardly counts
_LEAST_S = 0.25  # of work, before the pace is known: the first batches are slow
_KEPT = 0.98  # of the tokens a request, at each request
_LONGEST_RETRY_S = 60


@dataclass
class _Holding:
    """What a client has inside, or all have together."""

    num_requests: int = 0
    num_bytes: int = 0
    num_tokens: float = 0.0


class Place:
    """What one request takes up while it is inside."""

    def __init__(self, admission: Admission, client: str) -> None:
        self._admission = admission
        self.client = client
        self.num_bytes = 0
        self.num_tokens = 0.0
        self.deadline_s = math.inf
        """When it has waited too long, on the clock of the admission; known once its body is read."""

    def hold(self, num_bytes: int) -> None:
        """More of its body was read.

        Raises
        ------
        Refusal
            When the bodies are too many bytes: those of its client, or all together.
        """
        self.num_bytes += num_bytes
        self._admission.hold(self, num_bytes)

    def begin(self) -> None:
        """Its body is read: from now on it waits for its answer.

        Raises
        ------
        Refusal
            When it would wait too long.
        """
        self.deadline_s = self._admission.begin(self)

    def wait_on(self) -> None:
        """A part of its work is done; it waits for the next one."""
        self.deadline_s = self._admission.deadline_s()

    def weigh(self, num_tokens: int) -> None:
        """It is known how much work it is."""
        self._admission.weigh(self, num_tokens)


class Admission:
    """Lets requests in while their wait stays short and the memory that they take stays small.

    The wait is estimated from the tokens that are inside and from the pace at which tokens were
    answered lately while there was work, whatever holds them up: reading, encoding or computing.
    Work is shared fairly among clients (`noria.serving.fair_queue`), so a client waits for its own
    tokens and for as many of each other one at most. Of requests and bytes, a client may hold
    a / (1 - a) times what is free, `a` being `max_client_share` (dynamic thresholds, Choudhury & Hahne 1998,
    doi:10.1109/90.664262): alone a share of a, with n others like it less each, and some is always left.
    """

    def __init__(
        self,
        *,
        max_wait_s: float,
        max_requests: int,
        max_body_bytes: int,
        max_client_share: float = 1.0,
        num_at_once: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_stopping = False
        self._max_wait_s = max_wait_s
        self._most = _Holding(max_requests, _BODIES * max_body_bytes)
        self._share = max_client_share
        self._num_at_once = num_at_once
        self._clock = clock
        self._all = _Holding()
        self._by_client: dict[str, _Holding] = {}  # those who are inside
        self._num_begun = 0
        self._mean_tokens = 0.0
        self._done_tokens = 0.0  # in the busy seconds that are remembered
        self._done_s = 0.0
        self._busy_until_s = 0.0  # up to when busy time has been counted

    @property
    def num_requests(self) -> int:
        """Inside, of all clients."""
        return self._all.num_requests

    @contextmanager
    def enter(self, client: str = "") -> Iterator[Place]:
        """A place, given up at the end.

        Raises
        ------
        Refusal
            When there is none (429), or the server is stopping (503).
        """
        if (refusal := self.refusal(client)) is not None:
            raise refusal
        place = Place(self, client)
        own = self._by_client.setdefault(client, _Holding())
        for holding in (own, self._all):
            holding.num_requests += 1
        try:
            yield place
        finally:
            for holding in (own, self._all):
                holding.num_requests -= 1
                holding.num_bytes -= place.num_bytes
                holding.num_tokens -= place.num_tokens
            if not own.num_requests:
                del self._by_client[client]
            if place.deadline_s < math.inf:
                self._num_begun -= 1

    def refusal(self, client: str = "", *, is_inside: bool = False) -> Refusal | None:
        """Why this client can't come in now, if so; or why one who is inside can't stay, once its body is read.

        As many as are worked on at once come in however long they take: a server that is slower than it
        may be must not fall idle.
        """
        if self.is_stopping:
            return Refusal(
                503,
                "the server is stopping",
                next_step="ask another replica, or this one again after the time that Retry-After says",
                reason="stopping",
                retry_after_s=self.retry_after_s(client),
            )
        if self._num_begun >= self._num_at_once and (wait_s := self.wait_s_of(client)) > self._max_wait_s:
            return self._overloaded(client, f"the wait would be {wait_s:.1f} s")
        if is_inside:
            return None
        own, free = self._by_client.get(client, _Holding()), self._most.num_requests - self._all.num_requests
        if not free:
            return self._overloaded(client, f"{self.num_requests:,} requests are inside")
        if own.num_requests and own.num_requests * (1 - self._share) >= self._share * free:
            return self._overloaded(client, f"{own.num_requests:,} requests of this client are inside")
        return None

    @property
    def wait_s(self) -> float:
        """How long all that is inside takes; 0 as long as nothing has been measured."""
        return self._seconds_of(self._all.num_tokens)

    def wait_s_of(self, client: str) -> float:
        """How long a request of this client that came now would wait."""
        own = self._by_client.get(client, _Holding()).num_tokens
        return self._seconds_of(sum(min(holding.num_tokens, own) for holding in self._by_client.values()))

    def retry_after_s(self, client: str = "") -> int:
        """Whole seconds until what this client would wait for now is worked off."""
        return max(1, min(math.ceil(self.wait_s_of(client)), _LONGEST_RETRY_S))

    def hold(self, place: Place, num_bytes: int) -> None:
        """See `Place.hold`."""
        own = self._by_client[place.client]
        own.num_bytes += num_bytes
        self._all.num_bytes += num_bytes
        free = self._most.num_bytes - self._all.num_bytes
        if free < 0:
            raise self._overloaded(place.client, "the bodies of all requests together are too long")
        if own.num_requests > 1 and own.num_bytes * (1 - self._share) > self._share * free:
            raise self._overloaded(place.client, "the bodies of this client together are too long")

    def begin(self, place: Place) -> float:
        """See `Place.begin`; returns its deadline."""
        if (refusal := self.refusal(place.client, is_inside=True)) is not None:
            raise refusal
        now = self._clock()
        if not self._num_begun:
            self._busy_until_s = now
        self._num_begun += 1
        self._add_tokens(place, self._mean_tokens)
        return self.deadline_s()

    def deadline_s(self) -> float:
        """When one that begins to wait now has waited too long."""
        return self._clock() + self._max_wait_s

    def weigh(self, place: Place, num_tokens: int) -> None:
        """See `Place.weigh`."""
        self._add_tokens(place, num_tokens - place.num_tokens)
        self._mean_tokens = _KEPT * self._mean_tokens + (1 - _KEPT) * num_tokens if self._mean_tokens else num_tokens

    def answered(self, num_tokens: int) -> None:
        """So much work is done."""
        now = self._clock()
        busy_s = now - self._busy_until_s
        kept = math.exp(-busy_s / _REMEMBERED_S)
        self._done_tokens = kept * self._done_tokens + num_tokens
        self._done_s = kept * self._done_s + busy_s
        self._busy_until_s = now

    def too_late(self) -> Refusal:
        """For a request whose deadline has passed before it was computed."""
        return Refusal(
            503,
            "the request waited too long",
            expected=f"at most {self._max_wait_s:g} s",
            next_step="try again after the time that Retry-After says",
            reason="deadline",
            retry_after_s=max(1, min(math.ceil(self.wait_s), _LONGEST_RETRY_S)),
        )

    def _add_tokens(self, place: Place, num_tokens: float) -> None:
        place.num_tokens += num_tokens
        self._by_client[place.client].num_tokens += num_tokens
        self._all.num_tokens += num_tokens

    def _seconds_of(self, num_tokens: float) -> float:
        if self._done_s < _LEAST_S or not self._done_tokens:
            return 0.0
        return num_tokens * self._done_s / self._done_tokens

    def _overloaded(self, client: str, what: str) -> Refusal:
        return Refusal(
            429,
            f"the server has too much to do: {what}",
            next_step="try again after the time that Retry-After says",
            retry_after_s=self.retry_after_s(client),
        )
