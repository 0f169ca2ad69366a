"""Which feedback was taken into the data, for good: a record for each intake, beside the feedback in the store.

<name>/feedback/<time>-<id>.json   what people said (noria/serving/feedback.py)
<name>/intakes/<number>.json       what became of some of it

A record is written once and never again; it is what an intake is: the rows and the quarantine are made from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from noria.data.intake import write_whole
from noria.serving.objects import Objects

logger = logging.getLogger(__name__)

_AT_ONCE = 8
Event = Mapping[str, Any]
"""One feedback, as it was kept."""


@dataclass(frozen=True)
class Intake:
    """One intake.

    Attributes
    ----------
    number:
        The first is 1.
    time:
        UTC, ISO 8601.
    taken:
        The names of the feedback objects that were looked at, sorted.
    accepted:
        Those of them that became rows.
    refused:
        Those that did not, with the rule and the reason.
    clients:
        Rows by client.
    said:
        By version of the model, how often its answers were called `right` and `wrong`.
    heard:
        By client, of how many labelled rows it spoke, and how many of these it contradicted.
    """

    number: int
    time: str
    taken: tuple[str, ...]
    accepted: tuple[str, ...]
    refused: Mapping[str, tuple[str, str]]
    clients: Mapping[str, int]
    said: Mapping[str, Mapping[str, int]]
    heard: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.number:06}"


class Intakes:
    """The intakes of one model's feedback; `cache` keeps their records on this machine, of each `place` its own.

    The place is the URL or path of the model in the store: another store has other intakes of the same numbers.
    """

    def __init__(self, objects: Objects, name: str, *, place: str, cache: Path) -> None:
        self._objects = objects
        self._name = name
        self._cache = cache / name / "intakes" / hashlib.sha256(place.encode()).hexdigest()[:12]

    def all(self) -> list[Intake]:
        """The intakes so far, in order."""
        names = self._objects.names(f"{self._name}/intakes")
        kept = [name for name in names if (self._cache / name).exists()]
        if kept and (self._cache / kept[-1]).read_bytes() != self._stored(kept[-1]):
            shutil.rmtree(self._cache)  # a backup was restored, and its history went on otherwise
        return [self._read(name) for name in names]

    def add(self, intake: Intake) -> bool:
        """Record an intake; False when another was faster and has its number."""
        data = json.dumps(asdict(intake), ensure_ascii=False).encode() + b"\n"
        return self._objects.create(f"{self._name}/intakes/{intake.name}.json", data)

    def waiting(self, intakes: Sequence[Intake]) -> list[str]:
        """The names of the feedback objects that none of these looked at, oldest first."""
        taken = {name for intake in intakes for name in intake.taken}
        return [name for name in self._objects.names(f"{self._name}/feedback") if name not in taken]

    def events(self, names: Sequence[str]) -> Iterator[tuple[str, Event]]:
        """The feedback of these names with its name, in their order; few are in memory at once: each may be an image.

        What is not there is passed over: while a store was copied for a backup, feedback came and was taken in.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                for name, event in zip(some, pool.map(self._event, some), strict=True):
                    if event is None:
                        logger.warning("the feedback %s was taken in, and is not in the store", name)
                    else:
                        yield name, event

    def _event(self, name: str) -> Event | None:
        stored = self._objects.read(f"{self._name}/feedback/{name}")
        event: Event | None = None if stored is None else json.loads(stored.data)
        return event

    def _read(self, name: str) -> Intake:
        kept = self._cache / name
        if not kept.exists():
            write_whole(kept, self._stored(name).decode())
        values: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        lists = {key: tuple(values[key]) for key in ("taken", "accepted")}
        pairs = {key: {name: tuple(pair) for name, pair in values.get(key, {}).items()} for key in ("refused", "heard")}
        return Intake(**{**values, **lists, **pairs})

    def _stored(self, name: str) -> bytes:
        stored = self._objects.read(f"{self._name}/intakes/{name}")
        assert stored is not None, "a record is never removed"
        return stored.data
