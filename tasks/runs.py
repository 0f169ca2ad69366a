"""What became of each run: a line when it begins and a line when it ends, beside the history of its nodes.

A run that began, has not ended, and whose workspace nobody holds was killed: it is told as "crashed". One that waits
for a person holds nothing either, and says so: it is "waiting".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from noria.lease import holder
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
    open_ones = [run for run in runs.values() if run.state == "running"]
    if open_ones and holder(workspace) is None:
        runs |= {run.run: replace(run, state="crashed") for run in open_ones}
    elif open_ones:
        runs |= {run.run: replace(run, state="crashed") for run in open_ones[:-1]}  # one at a time holds the workspace
    return list(runs.values())


def attempts_of(workspace: Workspace, run: str) -> Iterator[Attempt]:
    """What a run's nodes did, in order."""
    return (attempt for attempt in read_history(workspace) if attempt.run == run)


def _file(workspace: Workspace) -> Path:
    return workspace.scratch / "runs.jsonl"
