"""How much clients may write into the store: so much at once, and so much a second after that."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from noria.serving.refusal import Refusal

_BURST, _EVENTS_PER_S = 20.0, 0.2
_BURST_BYTES, _BYTES_PER_S = 50e6, 10e3  # 0.9 GB a day at most, of all clients together
_LEAST_BYTES = 4_096  # what a file takes on a disk, however short it is
_MOST_CLIENTS = 1_000


class Rate:
    """So many at once, and so many a second after that."""

    def __init__(self, most: float, per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._per_s, self._clock = most, per_s, clock
        self._left, self._at_s = most, clock()

    def take(self, amount: float) -> float:
        """0 when it was taken; otherwise the seconds until it can be."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at_s) * self._per_s)
        self._at_s = now
        if amount <= self._left:
            self._left -= amount
            return 0.0
        return (amount - self._left) / self._per_s


class Rates:
    """The rate of each client, of the latest thousand; one that is forgotten begins anew."""

    def __init__(self, *, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`max_bytes` of the longest body."""
        self._clock = clock
        self._by_client: OrderedDict[str, Rate] = OrderedDict()
        self._bytes = Rate(max(_BURST_BYTES, 2.0 * max_bytes), _BYTES_PER_S, clock=clock)

    def come(self, client: str) -> None:
        """Somebody has something to say.

        Raises
        ------
        Refusal
            When he said too much lately.
        """
        rate = self._by_client.setdefault(client, Rate(_BURST, _EVENTS_PER_S, clock=self._clock))
        self._by_client.move_to_end(client)
        while len(self._by_client) > _MOST_CLIENTS:
            self._by_client.popitem(last=False)
        _refuse_sooner(rate.take(1), "this client sends too much feedback")

    def hold(self, num_bytes: int) -> None:
        """It is so long.

        Raises
        ------
        Refusal
            When all clients together sent too much lately.
        """
        _refuse_sooner(
            self._bytes.take(max(num_bytes, _LEAST_BYTES)), "there is too much feedback from all clients together"
        )


def _refuse_sooner(wait_s: float, what: str) -> None:
    if wait_s > 0:
        raise Refusal(
            429,
            what,
            next_step="try again after the time that Retry-After says",
            reason="feedback_rate",
            retry_after_s=max(1, math.ceil(wait_s)),
        )
