"""Contenders of one workload taking turns, within a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.contender import Contender, Measured, run_contender
from benchmarks.peers.settings import Record
from noria.errors import TrainingError

_FEWEST_S = 20.0  # with less time left nothing is begun
Group = tuple[Contender, ...]


@dataclass
class Race:
    """Runs contenders of one workload and keeps their records, by name."""

    workload: Path
    deadline: float
    repeats: int
    records: dict[str, list[Record]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def run(self, contender: Contender) -> None:
        """Train once; one that fails is told and has no record."""
        if self.seconds_left < _FEWEST_S:
            print(f"left out: {contender.name}: no time left", flush=True)
            return
        begun = time.monotonic()
        try:
            record = run_contender(
                contender, self.workload, python=Path(sys.executable), timeout_s=max(_FEWEST_S, self.seconds_left)
            )
        except TrainingError as error:
            print(f"left out: {error}", flush=True)
            return
        self.seconds[contender.name] = time.monotonic() - begun
        self.records.setdefault(contender.name, []).append(record)
        print(
            f"{record.work}: {contender.name}: {record.real_tokens_per_s:,.0f} tokens/s, "
            f"{record.parameters / 1e6:.1f}M parameters, {record.warmup_seconds:.1f} + {record.seconds:.1f} s"
            + (f", loss {record.curve[-1][1]:.4f}" if record.curve else ""),
            flush=True,
        )

    def measured(self, contender: Contender) -> Measured | None:
        """None where no run of it came through."""
        found = self.records.get(contender.name)
        return Measured(contender, tuple(found)) if found else None

    def finish(
        self,
        groups: Sequence[Group],
        *,
        best: Callable[[Sequence[Measured]], Measured],
        tell: Callable[[Sequence[Measured]], None],
    ) -> None:
        """Every candidate once, then the best of each group in turn; `tell` hears of those that ran, each turn."""
        for group in groups:
            for contender in group:
                self.run(contender)
        ran = [[m for c in group if (m := self.measured(c))] for group in groups]
        chosen = [best(candidates).contender for candidates in ran if candidates]
        for turn in range(self.repeats):
            if turn and self.seconds_left < sum(self.seconds[c.name] for c in chosen):
                print(f"{turn} of {self.repeats} repeats: no time for more", flush=True)
                break
            for contender in chosen if turn else ():
                self.run(contender)
            if found := [m for c in chosen if (m := self.measured(c))]:
                tell(found)
