"""Bodies, understood and encoded: several at once, on a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from noria.scenarios.base import Row, Scenario
from noria.serving.predictor import Encoded, Predictor
from noria.serving.refusal import Refusal


class Given(Protocol):
    """A body as its route understands it."""

    @property
    def rows(self) -> Sequence[Row]:
        """The validated requests in it."""
        ...


G_co = TypeVar("G_co", bound=Given, covariant=True)
Read = Callable[[bytes, Scenario], G_co]
Understood = tuple[Given, Sequence[Encoded]]


@dataclass(frozen=True)
class Unread:
    """A body, and what understands it."""

    body: bytes
    read: Read[Given]


def understand(predictor: Predictor, batch: Sequence[Unread]) -> list[Understood | Refusal]:
    """What each body holds, encoded: all of them at once, which costs half."""
    read = [_given(unread, predictor.bundle.scenario) for unread in batch]
    rows = [row for given in read if not isinstance(given, Refusal) for row in given.rows]
    encoded = iter(predictor.encode(rows) if rows else ())
    return [given if isinstance(given, Refusal) else (given, [next(encoded) for _ in given.rows]) for given in read]


def _given(unread: Unread, scenario: Scenario) -> Given | Refusal:
    try:
        return unread.read(unread.body, scenario)
    except Refusal as refusal:
        return refusal
