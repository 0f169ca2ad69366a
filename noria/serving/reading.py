"""Bodies, understood and encoded: several at once, on a thread, while somebody waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from noria.scenarios.base import Row, Scenario
from noria.serving.batcher import Size
from noria.serving.predictor import Encoded, Predictor
from noria.serving.refusal import Refusal

BYTES_AT_ONCE = 65_536
"""Of small bodies, which are read together; a large one is read alone."""
_LEAST_BYTES = BYTES_AT_ONCE // 8
_SLOW_S = 0.05


class Given(Protocol):
    """A body as its route understands it."""

    @property
    def rows(self) -> Sequence[Row]:
        """The validated requests in it."""
        ...


T = TypeVar("T")
G_co = TypeVar("G_co", bound=Given, covariant=True)
InTime = Callable[[Iterable[Row]], Iterable[Row]]
"""The rows, one by one, while there is time: otherwise a Refusal."""
Read = Callable[[bytes, Scenario, InTime], G_co]
Understood = tuple[Given, Sequence[Encoded]]


@dataclass(frozen=True)
class Unread:
    """A body, what understands it, and until when: a few kilobytes of images or recordings can be minutes of work."""

    body: bytes
    read: Read[Given]
    deadline_s: float
    too_late: Callable[[], Refusal]

    @property
    def size(self) -> Size:
        """In bytes, where rows are in tokens."""
        return Size(1, max(len(self.body), _LEAST_BYTES))

    def in_time(self, items: Iterable[T]) -> Iterator[T]:
        """The items, while there is time."""
        for item in items:
            if time.monotonic() > self.deadline_s:
                raise self.too_late()
            yield item


def understand(predictor: Predictor, batch: Sequence[Unread]) -> list[Understood | Refusal]:
    """What each body holds, encoded: all of them at once, which costs half, unless already to look at them was slow."""
    started = time.monotonic()
    read = [_given(unread, predictor.bundle.scenario) for unread in batch]
    if time.monotonic() - started > _SLOW_S:
        return [_encoded(predictor, unread, given) for unread, given in zip(batch, read, strict=True)]
    rows = [row for given in read if not isinstance(given, Refusal) for row in given.rows]
    encoded = iter(predictor.encode(rows) if rows else ())
    return [given if isinstance(given, Refusal) else (given, [next(encoded) for _ in given.rows]) for given in read]


def _given(unread: Unread, scenario: Scenario) -> Given | Refusal:
    try:
        return unread.read(unread.body, scenario, unread.in_time)
    except Refusal as refusal:
        return _alone(refusal)


def _encoded(predictor: Predictor, unread: Unread, given: Given | Refusal) -> Understood | Refusal:
    if isinstance(given, Refusal):
        return given
    try:
        return given, [encoded for row in unread.in_time(given.rows) for encoded in predictor.encode([row])]
    except Refusal as refusal:
        return _alone(refusal)


def _alone(refusal: Refusal) -> Refusal:
    """Without what it came of: that would keep all that was read, up to a gigabyte of a large body of small values."""
    refusal.__cause__ = refusal.__context__ = None
    return refusal.with_traceback(None)
