"""The journal of a model: one object per event, never changed, in order of time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

from noria.errors import StoreError
from noria.serving.objects import Objects

EventKind = Literal[
    "published",
    "staged",
    "promoted",
    "kept",
    "inconclusive",
    "rolled-back",
    "not-served",
    "canary",  # tried beside the champion, in the view of clients or as a shadow
    "withdrawn",
    "overdue",  # tried for too long
]
_VERDICTS: tuple[EventKind, ...] = ("promoted", "kept", "inconclusive", "canary")
_MOVES = ("-promoted.json", "-rolled-back.json", "-canary.json", "-withdrawn.json")


@dataclass(frozen=True)
class Event:
    """Something that happened to a model.

    Attributes
    ----------
    kind, version:
        What happened, to which version.
    time:
        UTC, ISO 8601.
    reason:
        In words.
    details:
        What the decision rested on.
    """

    kind: EventKind
    version: str
    time: str
    reason: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


class Journal:
    """Events of one model in a store."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._prefix = f"{name}/journal"
        self._latest: Mapping[str, Event] = {}

    def record(
        self, kind: EventKind, version: str, *, reason: str = "", details: Mapping[str, object] | None = None
    ) -> Event:
        """Add an event now."""
        while True:
            event = Event(kind, version, datetime.now(UTC).isoformat(), reason, details or {})
            if self.keep(event):
                return event

    def keep(self, event: Event) -> bool:
        """Add an event of its own time, once; False when there is one of this kind and this microsecond."""
        key = f"{self._prefix}/{datetime.fromisoformat(event.time):%Y%m%dT%H%M%S.%fZ}-{event.kind}.json"
        return self._objects.create(key, json.dumps(asdict(event), indent=2, ensure_ascii=False).encode() + b"\n")

    def events(self) -> list[Event]:
        """All events, oldest first."""
        return [self._read(name) for name in self._objects.names(self._prefix)]

    def latest(self, most: int) -> list[Event]:
        """The latest events, oldest first; each is read once, since it never changes."""
        known, names = self._latest, self._objects.names(self._prefix)[-most:]
        self._latest = {name: known.get(name) or self._read(name) for name in names}
        return list(self._latest.values())

    def num_events(self) -> Mapping[str, int]:
        """How often each kind of event happened, by the names of the objects alone."""
        return Counter(name.partition("-")[2].removesuffix(".json") for name in self._objects.names(self._prefix))

    def has(self, kind: EventKind, version: str) -> bool:
        """Whether this happened to this version before."""
        return self.last(kind, version=version) is not None

    def last(self, *kinds: EventKind, version: str | None = None) -> Event | None:
        """The last event of these kinds, of one version or of any."""
        endings = tuple(f"-{kind}.json" for kind in kinds)
        names = [name for name in self._objects.names(self._prefix) if name.endswith(endings)]
        events = (self._read(name) for name in reversed(names))  # most ask of the latest
        return next((event for event in events if version in (None, event.version)), None)

    def last_verdict(self, version: str) -> Event | None:
        """The last event that judged this version, or made it live."""
        return self.last(*_VERDICTS, version=version)

    def taken_back(self, version: str) -> Event | None:
        """The rollback or withdrawal that took this version from the clients, unless it came to them again since."""
        last = None
        for name in self._objects.names(self._prefix):
            if not name.endswith(_MOVES):
                continue
            event = self._read(name)
            if event.version == version:
                last = event if event.kind == "withdrawn" else None
            elif event.kind == "rolled-back" and event.details.get("over") == version:
                last = event
        return last

    def _read(self, name: str) -> Event:
        key = f"{self._prefix}/{name}"
        stored = self._objects.read(key)
        assert stored is not None, "events are never removed"
        try:
            return Event(**json.loads(stored.data))
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"an event of the journal can't be read: {error}",
                where=key,
                expected="one JSON object",
                next_step="move the file away; what is live is said by production.json alone",
            ) from error
