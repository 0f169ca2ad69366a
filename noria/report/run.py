"""What a report has to know of a run that is in none of its workspace's artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from noria.report.parts import Bar, Section, table


@dataclass(frozen=True)
class Step:
    """A node that a run came to; `started` in UTC."""

    stage: str
    state: str
    started: datetime
    seconds: float
    own_s: float

    @property
    def ended(self) -> datetime:
        """When it was done."""
        return self.started + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class ReportedRun:
    """One run: Prefect's id, the flow's name, how it ended, its page in Prefect (if that lasts), its own complaint."""

    run: str
    flow: str
    state: str
    started: datetime
    ended: datetime | None = None
    url: str | None = None
    error: str = ""
    steps: Sequence[Step] = field(default_factory=tuple)

    @property
    def seconds(self) -> float:
        """From its begin to its end, or to the end of its last node."""
        end = self.ended or max((step.ended for step in self.steps), default=self.started)
        return max((end - self.started).total_seconds(), 0.0)


def what_ran(run: ReportedRun) -> Section:
    """Every node with its time: as a bar on the time of the run, and in seconds."""
    begin = min([run.started, *(step.started for step in run.steps)])  # a record has whole seconds
    whole_s = max(run.seconds, *((step.ended - begin).total_seconds() for step in run.steps), 1e-3)
    rows = [
        (
            step.stage,
            step.state,
            f"{step.seconds:,.1f}",
            Bar((step.started - begin).total_seconds() / whole_s, step.seconds / whole_s, step.state),
            f"{step.own_s:,.1f}" if step.own_s else "–",
        )
        for step in run.steps
    ]
    cached = sum(step.state == "cached" for step in run.steps)
    lead = f"{len(run.steps)} nodes in {run.seconds:,.1f} s; {cached} had nothing to do and came from the cache."
    parts = (table("node | state | seconds# | when | in the node#", rows),) if rows else ()
    return Section("What ran", lead, parts)
