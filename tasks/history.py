"""What became of each node in each run, one line a node: feeds `noria plan` and `noria status`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from noria.workspace import Workspace

Ended = Literal["ran", "cached", "failed"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """One run's attempt at one node.

    Attributes
    ----------
    run:
        Prefect's id of the flow run.
    seconds, own_s:
        All of it, and inside the node's function.
    ended:
        UTC, ISO 8601.
    """

    run: str
    stage: str
    state: Ended
    seconds: float
    own_s: float
    ended: str


def remember(workspace: Workspace, attempt: Attempt) -> None:
    """Append an attempt. A history that can't be written (a full disk) takes nothing from the run but this line."""
    try:
        with workspace.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(attempt)) + "\n")
    except OSError as error:
        logger.warning("%s can't be written: %s", workspace.history, error)


def read_history(workspace: Workspace) -> Iterator[Attempt]:
    """All attempts, oldest first; a line that was cut short is left out."""
    if not workspace.history.exists():
        return
    with workspace.history.open(encoding="utf-8") as file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            yield Attempt(**values)
