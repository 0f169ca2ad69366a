"""Who may come in: how much is inside, how fast it is worked off, and so how long the next one would wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from noria.serving.refusal import Refusal

_BODIES = 64
_REMEMBERED_S = 2.0  # of work: what was measured longer ago hardly counts
_LEAST_S = 0.25  # of work, before the pace is known: the first batches are slow
_KEPT = 0.98  # of the tokens a request, at each request
_LONGEST_RETRY_S = 60


class Place:
    """What one request takes up while it is inside."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.num_bytes = 0
        self.num_tokens = 0.0
        self.deadline_s = math.inf
        """When it has waited too long, on the clock of the admission; known once its body is read."""

    def hold(self, num_bytes: int) -> None:
        """More of its body was read.

        Raises
        ------
        Refusal
            When all bodies together are too many bytes.
        """
        self.num_bytes += num_bytes
        self._admission.hold(num_bytes)

    def begin(self) -> None:
        """Its body is read: from now on it waits for its answer.

        Raises
        ------
        Refusal
            When it would wait too long.
        """
        self.deadline_s = self._admission.begin(self)

    def weigh(self, num_tokens: int) -> None:
        """It is known how much work it is."""
        self._admission.weigh(self, num_tokens)


class Admission:
    """Lets requests in while their wait stays short and the memory that they take stays small.

    The wait is estimated from the tokens that are inside and from the pace at which tokens were
    answered lately while there was work, whatever holds them up: reading, encoding or computing.
    """

    def __init__(
        self,
        *,
        max_wait_s: float,
        max_requests: int,
        max_body_bytes: int,
        num_at_once: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_stopping = False
        self.num_requests = 0
        self._max_wait_s = max_wait_s
        self._max_requests = max_requests
        self._max_bytes = _BODIES * max_body_bytes
        self._num_at_once = num_at_once
        self._clock = clock
        self._num_bytes = 0
        self._num_begun = 0
        self._tokens = 0.0
        self._mean_tokens = 0.0
        self._done_tokens = 0.0  # in the busy seconds that are remembered
        self._done_s = 0.0
        self._busy_until_s = 0.0  # up to when busy time has been counted

    @contextmanager
    def enter(self) -> Iterator[Place]:
        """A place, given up at the end.

        Raises
        ------
        Refusal
            When there is none (429), or the server is stopping (503).
        """
        if (refusal := self.refusal()) is not None:
            raise refusal
        place = Place(self)
        self.num_requests += 1
        try:
            yield place
        finally:
            self.num_requests -= 1
            self._num_bytes -= place.num_bytes
            self._tokens -= place.num_tokens
            if place.deadline_s < math.inf:
                self._num_begun -= 1

    def refusal(self, *, is_inside: bool = False) -> Refusal | None:
        """Why nobody can come in now, if so; or why one who is inside can't stay, once its body is read.

        As many as are worked on at once come in however long they take: a server that is slower than it
        may be must not fall idle.
        """
        if self.is_stopping:
            return Refusal(
                503,
                "the server is stopping",
                next_step="ask another replica, or this one again after the time that Retry-After says",
                reason="stopping",
                retry_after_s=self.retry_after_s,
            )
        if self._num_begun >= self._num_at_once and self.wait_s > self._max_wait_s:
            return self._overloaded(f"the wait would be {self.wait_s:.1f} s")
        if not is_inside and self.num_requests >= self._max_requests:
            return self._overloaded(f"{self.num_requests:,} requests are inside")
        return None

    @property
    def wait_s(self) -> float:
        """How long a request that came now would wait; 0 as long as nothing has been measured."""
        if self._done_s < _LEAST_S or not self._done_tokens:
            return 0.0
        return self._tokens * self._done_s / self._done_tokens

    @property
    def retry_after_s(self) -> int:
        """Whole seconds until what is inside now is worked off."""
        return max(1, min(math.ceil(self.wait_s), _LONGEST_RETRY_S))

    def hold(self, num_bytes: int) -> None:
        """See `Place.hold`."""
        self._num_bytes += num_bytes
        if self._num_bytes > self._max_bytes:
            raise self._overloaded("the bodies of all requests together are too long")

    def begin(self, place: Place) -> float:
        """See `Place.begin`; returns its deadline."""
        if (refusal := self.refusal(is_inside=True)) is not None:
            raise refusal
        now = self._clock()
        if not self._num_begun:
            self._busy_until_s = now
        self._num_begun += 1
        place.num_tokens = self._mean_tokens
        self._tokens += place.num_tokens
        return now + self._max_wait_s

    def weigh(self, place: Place, num_tokens: int) -> None:
        """See `Place.weigh`."""
        self._tokens += num_tokens - place.num_tokens
        place.num_tokens = num_tokens
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
            retry_after_s=self.retry_after_s,
        )

    def _overloaded(self, what: str) -> Refusal:
        return Refusal(
            429,
            f"the server has too much to do: {what}",
            next_step="try again after the time that Retry-After says",
            retry_after_s=self.retry_after_s,
        )
