"""What a store says is live: one object, so that the champion and the canary beside it change in one swap."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from noria.errors import StoreError
from noria.serving.journal import Event, EventKind, Journal
from noria.serving.objects import Objects

POINTER = "production.json"
Mode = Literal["canary", "shadow"]


@dataclass(frozen=True)
class Canary:
    """A version that is tried on requests before it goes live.

    Attributes
    ----------
    version, digest:
        The bundle.
    mode:
        "canary": it answers its share of the requests. "shadow": it answers them too, and no client sees it.
    share:
        Of the requests, in (0, 1].
    since, reason:
        When it was put beside the champion (UTC, ISO 8601) and why.
    waiting_since:
        When the first canary was that this one, or the one before it, replaced before anything was decided.
    """

    version: str
    digest: str
    mode: Mode
    share: float
    since: str
    reason: str
    waiting_since: str

    @property
    def trial(self) -> str:
        """Name of this standing: a version that is tried twice is observed twice."""
        return f"{datetime.fromisoformat(self.since):%Y%m%dT%H%M%S.%fZ}-{self.version}"

    def is_as(self, version: str, mode: Mode, share: float) -> bool:
        """Whether it is this version, and tried in this way."""
        return (self.version, self.mode, self.share) == (version, mode, share)


@dataclass(frozen=True)
class Production:
    """What is live.

    Attributes
    ----------
    version, digest:
        The bundle.
    since, reason:
        When it went live (UTC, ISO 8601) and why.
    previous:
        The versions that were live before it, latest first: where a rollback goes. A version that
        was rolled back is not among them.
    canary:
        What is tried beside it. Whenever another version goes live, it is gone: it was compared with this one.
    event:
        The change that made all this so, as the journal has it, or will have it after the next change at the latest.
    """

    version: str
    digest: str
    since: str
    reason: str
    previous: tuple[str, ...] = ()
    canary: Canary | None = None
    event: Event | None = None


class Pointer:
    """Reads and swaps that object, and sees to it that every change is one event of the journal."""

    def __init__(self, objects: Objects, name: str, *, journal: Journal, place: str) -> None:
        """`place` is the model's, for people."""
        self._objects = objects
        self._key = f"{name}/{POINTER}"
        self._journal = journal
        self._place = place

    def read(self) -> Production | None:
        """What is live, or None before the first promotion.

        Raises
        ------
        StoreError
            When it can't be read.
        """
        return self._stored()[0]

    def change(
        self,
        new: Production,
        kind: EventKind,
        version: str,
        *,
        reason: str,
        over: Production | None,
        details: Mapping[str, object],
    ) -> Production:
        """Swap `over` for `new`, and tell the journal that this happened to `version`.

        The event is a part of the pointer until the journal has it: whoever is killed in between leaves it to the
        next change, and no change is told twice.

        Raises
        ------
        StoreError
            When something else than `over` is live by now.
        """
        plain = json.loads(json.dumps(details, ensure_ascii=False))  # as it is read again
        new = replace(new, event=Event(kind, version, datetime.now(UTC).isoformat(), reason, plain))
        live, tag = self._stored()
        if live is not None:
            self.settle(live)  # its event is nowhere else
        data = json.dumps(_values(new), indent=2, ensure_ascii=False).encode() + b"\n"
        swapped = live == over and (
            self._objects.create(self._key, data) if tag is None else self._objects.swap(self._key, data, tag)
        )
        if not swapped and (found := self.read()) != new:  # equal: a put that won, and was repeated unanswered
            raise StoreError(
                "another promotion came in between; nothing was changed",
                where=self._place,
                expected=f"{_said(over)}, found {_said(found)}",
                next_step="run it again: it will be judged against what is live now",
            )
        self.settle(new)
        return new

    def settle(self, live: Production) -> bool:
        """Tell the journal what made `live` so, unless it knows; whether it had to be told."""
        return live.event is not None and self._journal.keep(live.event)

    def _stored(self) -> tuple[Production | None, str | None]:
        stored = self._objects.read(self._key)
        if stored is None:
            return None, None
        try:
            return _production(json.loads(stored.data)), stored.tag
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"the production pointer can't be read: {error}",
                where=f"{self._place}/{POINTER}",
                expected="the JSON that `noria promote` writes",
                next_step="restore it from the journal's last promotion, or delete it and `noria promote VERSION`",
            ) from error


def _values(production: Production) -> Mapping[str, object]:
    """Plain values; without a canary they say nothing of one."""
    values = asdict(production)
    return {name: value for name, value in values.items() if value is not None}


def _production(values: Mapping[str, Any]) -> Production:
    """A name that is missing or unknown is a TypeError."""
    canary, event = values.get("canary"), values.get("event")
    return Production(
        **{
            **values,
            "previous": tuple(values["previous"]),
            "canary": Canary(**canary) if canary else None,
            "event": Event(**event) if event else None,
        }
    )


def _said(production: Production | None) -> str:
    if production is None:
        return "nothing live"
    return f"{production.version} live" + (f" beside {production.canary.version}" if production.canary else "")
