"""DVC's repository of a workspace: whoever finds it locked waits, and what DVC refuses is said in our words."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from dvc.lock import LockError
from dvc.repo import Repo

from noria.errors import WorkspaceBusy
from noria.workspace import Workspace

_WAIT_S = 120.0

Result = TypeVar("Result")


def with_repository(workspace: Workspace, work: Callable[[Repo], Result], *, wait_s: float = _WAIT_S) -> Result:
    """Open the repository and do the work; when another DVC command has locked it, do it again a little later.

    Raises
    ------
    WorkspaceBusy
        When it is locked for longer than `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with Repo(str(workspace.root)) as repo:
                return work(repo)
        except LockError as error:  # DVC's locks fail at once (treeverse/dvc#10465)
            if time.monotonic() > deadline:
                raise WorkspaceBusy(
                    f"another DVC command has held the workspace for {wait_s:g} s",
                    where=str(workspace.root),
                    next_step="let it end, then try again",
                ) from error
            time.sleep(random.uniform(0.2, 1.0))
