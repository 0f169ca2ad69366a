"""Replay: what today's rules would say of the rows in quarantine. Nothing is changed by asking."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from noria.artifacts import read_artifact
from noria.config import Config
from noria.data.clean import clean_rows
from noria.data.ingest import ingest
from noria.data.quarantine import QuarantinedRow, read_quarantine
from noria.errors import SourceError
from noria.scenarios.base import Scenario


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes
    ----------
    stage:
        The stage whose quarantine was replayed.
    passing:
        Rows that today's rules let pass.
    still:
        Rows that stay, by the rule they break today.
    """

    stage: str
    passing: tuple[QuarantinedRow, ...]
    still: Mapping[str, int]


def replay_clean(
    quarantine: Path, *, preprocessed: Path, verdict: Path, scenario: Scenario, config: Config, scratch: Path
) -> Replayed:
    """Clean again, with today's cleaner and bounds, into a scratch directory that is removed.

    All rows are cleaned, not just those in quarantine: whether a row is a duplicate depends on the others.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        now = Path(name) / "clean"
        clean_rows(
            read_artifact(preprocessed),
            read_artifact(verdict),
            Path(name) / "cleaned",
            quarantine=now,
            scenario=scenario,
            config=config.clean,
        )
        return _compare(quarantine, now)


def replay_ingest(quarantine: Path, *, scenario: Scenario, config: Config, base: Path, scratch: Path) -> Replayed:
    """Read the source again, with today's settings, into a scratch directory that is removed."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        now = Path(name) / "ingest"
        try:
            ingest(
                config.source,
                schema=scenario.schema,
                target=scenario.target,
                base=base,
                raw=Path(name) / "raw",
                quarantine=now,
            )
        except SourceError:
            if not now.exists():  # otherwise no row can be read today either, and `now` says why
                raise
        return _compare(quarantine, now)


def _compare(before: Path, now: Path) -> Replayed:
    """Rows of `before` by their rule in `now`; a row is known by its origin."""
    rules = {row.origin: row.rule for row in read_quarantine(now)}
    passing: list[QuarantinedRow] = []
    still = Counter[str]()
    for row in read_quarantine(before):
        if row.origin in rules:
            still[rules[row.origin]] += 1
        else:
            passing.append(row)
    return Replayed(before.name, tuple(passing), dict(still.most_common()))
