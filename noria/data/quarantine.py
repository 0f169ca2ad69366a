"""Quarantine: rows that a stage refused, whole, with the rule they broke.

One directory per stage, one JSON object a line. Nothing is dropped: the payload holds every column
of the row (or the raw text of a record that was none), so that it can be read, mended and replayed.
Bytes that were not valid in the source's encoding appear as lone surrogates (`\\udcff` is byte
0xFF), Python's `surrogateescape`, from which the original bytes can be had again. A column of bytes is
`{"base64": …}`.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from noria.artifacts import Artifact, Draft, write_artifact

QUARANTINED = "rows.jsonl"


@dataclass(frozen=True)
class QuarantinedRow:
    """One refused row."""

    id: str
    origin: str
    payload: Mapping[str, object]
    stage: str
    rule: str
    reason: str
    quarantined_at: str
    """UTC, ISO 8601."""


class QuarantineWriter:
    """Writes the quarantine of one stage as an artifact: `with QuarantineWriter(directory) as quarantine: …`.

    The stage is the name of the directory. Memory does not grow with the rows.
    """

    def __init__(self, directory: Path, *, parents: tuple[Artifact, ...] = ()) -> None:
        self.directory = directory
        self.by_rule: Counter[str] = Counter()
        self.first_reason: dict[str, str] = {}
        self._parents = parents
        self._time = datetime.now(UTC).isoformat(timespec="seconds")
        self._stack = ExitStack()

    @property
    def num_rows(self) -> int:
        """Rows refused so far."""
        return self.by_rule.total()

    def add(self, row: Mapping[str, object], *, rule: str, reason: str) -> None:
        """Refuse `row` (with its `id` and `origin`): the short name of the rule, and a sentence for people."""
        payload = {name: value for name, value in row.items() if name not in ("id", "origin")}
        refused = QuarantinedRow(
            id=str(row["id"]),
            origin=str(row["origin"]),
            payload=payload,
            stage=self.directory.name,
            rule=rule,
            reason=reason,
            quarantined_at=self._time,
        )
        self._file.write(_dump(refused) + "\n")
        self.by_rule[rule] += 1
        self.first_reason.setdefault(rule, f"{refused.origin}: {reason}")

    def __enter__(self) -> QuarantineWriter:
        self._draft: Draft = self._stack.enter_context(
            write_artifact(self.directory, kind="quarantine", parents=self._parents)
        )
        self._file = self._stack.enter_context((self._draft.path / QUARANTINED).open("w", encoding="utf-8"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draft.counts = {"rows": self.num_rows, **dict(sorted(self.by_rule.items()))}
        self._stack.__exit__(kind, error, trace)


def gather_quarantines(parts: Sequence[Path], target: Path) -> None:
    """The files of several quarantines in one, byte for byte."""
    with target.open("wb") as whole:
        for part in parts:
            if part.exists():
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)


def read_quarantine(directory: Path) -> Iterator[QuarantinedRow]:
    """The refused rows of one stage in order; none when the stage never ran."""
    path = directory / QUARANTINED
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield QuarantinedRow(**json.loads(line))


def _dump(row: QuarantinedRow) -> str:
    line = json.dumps(vars(row), ensure_ascii=False, default=_plain)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(vars(row), default=_plain)
    return line


def _plain(value: object) -> object:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else repr(value)
