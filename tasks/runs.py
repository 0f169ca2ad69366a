"""What became of each run: a line when it begins and a line when it ends, beside the history of its nodes.

A run that began, has not ended, and whose process is gone was killed: it is told as "crashed". Its process holds a
file for as long as the run lasts, since it holds the workspace only in turns: not while it waits for a person
("waiting"), say.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from noria.lease import is_marked, marked
from noria.workspace import Workspace
from tasks.history import Attempt, read_history

State = Literal["running", "waiting", "completed", "failed", "cancelled", "crashed"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run of a flow.

    Attributes
    ----------
    run, flow:
        Prefect's id of the flow run, and the flow's name.
    started, ended:
        UTC, ISO 8601; `ended` is None while it runs and where it was killed.
    error:
        Its own account of what went wrong.
    url:
        Of its page in the Prefect UI; None where the server ended with the run.
    """

    run: str
    flow: str
    started: str
    url: str | None = None
    state: State = "running"
    ended: str | None = None
    error: str = ""


def remember_run(workspace: Workspace, run: Run) -> None:
    """Append what is known of a run; the last line of a run counts."""
    try:
        with _file(workspace).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(run)) + "\n")  # in ASCII: an error may quote broken bytes
    except OSError as error:
        logger.warning("%s can't be written: %s", _file(workspace), error)


def read_runs(workspace: Workspace) -> list[Run]:
    """All runs, in the order in which they began."""
    runs: dict[str, Run] = {}
    if _file(workspace).exists():
        for line in _file(workspace).read_text(encoding="utf-8").splitlines():
            try:
                run = Run(**json.loads(line))
            except (ValueError, TypeError):
                continue  # cut short by a full disk
            runs[run.run] = run
    return [
        replace(run, state="crashed")
        if run.state in ("running", "waiting") and not is_marked(_mark(workspace, run.run))
        else run
        for run in runs.values()
    ]


@contextmanager
def alive(workspace: Workspace, run: str) -> Iterator[None]:
    """A run is at it, or waits, for as long as the block runs and its process lives."""
    mark = _mark(workspace, run)
    for other in mark.parent.glob("[!.]*"):
        if not is_marked(other):
            other.unlink(missing_ok=True)  # of one that was killed
    with marked(mark):
        yield


def attempts_of(workspace: Workspace, run: str) -> Iterator[Attempt]:
    """What a run's nodes did, in order."""
    return (attempt for attempt in read_history(workspace) if attempt.run == run)


def _mark(workspace: Workspace, run: str) -> Path:
    return workspace.scratch / "alive" / (run or "run")


def _file(workspace: Workspace) -> Path:
    return workspace.scratch / "runs.jsonl"
