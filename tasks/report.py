"""The report of a run, from what its runner remembers: for the flows at their end, and for `noria report`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from noria.errors import ArtifactError
from noria.report.page import write_report
from noria.report.run import ReportedRun, Step
from noria.workspace import Workspace
from tasks.history import Attempt, read_history
from tasks.runs import Run, attempts_of, read_runs


def write_run_report(workspace: Workspace, run: Run) -> Path:
    """Write the page of this run, and say where it is."""
    return write_report(workspace, _reported(workspace, run))


def last_run(workspace: Workspace) -> Run:
    """The run that began last.

    Raises
    ------
    ArtifactError
        When there was none.
    """
    runs = read_runs(workspace)
    if runs:
        return runs[-1]
    if attempts := list(read_history(workspace)):  # by a release that kept no record of runs
        return Run(attempts[-1].run, "pipeline", attempts[0].ended, state="completed", ended=attempts[-1].ended)
    raise ArtifactError("there was no run in this workspace", where=str(workspace.root), next_step="`noria run`")


def run_table(workspace: Workspace, run: Run) -> str:
    """Markdown of what ran, and of how it ended."""
    lines = [
        f"**{run.flow} {run.state}**",
        "",
        "| node | state | seconds | of which in the node |",
        "|---|---|---:|---:|",
    ]
    lines += [
        f"| {attempt.stage} | {attempt.state} | {attempt.seconds:,.1f} | {attempt.own_s:,.1f} |"
        for attempt in attempts_of(workspace, run.run)
    ]
    return "\n".join(lines) + "\n"


def _reported(workspace: Workspace, run: Run) -> ReportedRun:
    steps = tuple(_step(attempt) for attempt in attempts_of(workspace, run.run))
    began = min([_time(run.started), *(step.started for step in steps)])
    ended = _time(run.ended) if run.ended else None
    return ReportedRun(run.run, run.flow, run.state, began, ended, run.url, run.error, steps)


def _step(attempt: Attempt) -> Step:
    started = _time(attempt.ended) - timedelta(seconds=attempt.seconds)
    return Step(attempt.stage, attempt.state, started, attempt.seconds, attempt.own_s)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
