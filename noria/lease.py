"""One run at a time in a workspace, and stages that end with the run that started them."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from noria.errors import WorkspaceBusy
from noria.workspace import Workspace

LIFELINE = "NORIA_LIFELINE"
"""Environment variable of stages: the FIFO whose write end the runner holds for as long as it lives."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """Who holds a workspace."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def hold(workspace: Workspace, *, wait_s: float) -> Iterator[None]:
    """Hold the workspace for as long as the block runs; wait up to `wait_s` for whoever holds it.

    Meanwhile stages find this Python first on PATH and end when this process does, and the workspace
    is the current directory: DVC saves to its run cache from nowhere else.

    Raises
    ------
    WorkspaceBusy
        When it is still held after `wait_s`, naming the owner.
    """
    workspace.scratch.mkdir(exist_ok=True)
    lock = _lock(workspace)
    _acquire(lock, workspace, wait_s=wait_s)
    try:
        owner = Owner(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        _owner_file(workspace).write_text(json.dumps(asdict(owner)))
        with chdir(workspace.root), _lifeline(workspace.scratch / "lifeline"):
            yield
    finally:
        _owner_file(workspace).unlink(missing_ok=True)
        lock.release()


def holder(workspace: Workspace) -> Owner | None:
    """Who holds the workspace now; None when nobody does."""
    lock = _lock(workspace)
    if not Path(lock.lock_file).exists():
        return None
    try:
        with lock.acquire(timeout=0):
            return None  # whoever the file names was killed: the kernel let go of the lock
    except Timeout:
        return _named(workspace)


def _named(workspace: Workspace) -> Owner | None:
    try:
        return Owner(**json.loads(_owner_file(workspace).read_text()))
    except (FileNotFoundError, ValueError):
        return None  # released, or being written, this very moment


def _owner_file(workspace: Workspace) -> Path:
    return workspace.scratch / "run.owner.json"


def _lock(workspace: Workspace) -> FileLock:
    return FileLock(workspace.scratch / "run.lock")


def _acquire(lock: FileLock, workspace: Workspace, *, wait_s: float) -> None:
    try:
        lock.acquire(timeout=0)
        return
    except Timeout:
        logger.warning("waiting up to %g s: %s is held by %s", wait_s, workspace.root, _named(workspace))
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise WorkspaceBusy(
            f"another run holds this workspace: {_named(workspace)}",
            where=str(workspace.root),
            expected=f"that it ends within {wait_s:g} s",
            next_step="let it end, end that process, or wait longer with --wait-s",
        ) from None


@contextmanager
def _lifeline(fifo: Path) -> Iterator[None]:
    """Hold a FIFO's write end, named in the environment: the kernel closes it however this process ends."""
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo, mode=0o600)
    end = os.open(fifo, os.O_RDWR)  # with O_WRONLY, open would wait for the first stage
    before = {name: os.environ.get(name) for name in (LIFELINE, "PATH")}
    os.environ[LIFELINE] = str(fifo)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        yield
    finally:
        os.close(end)
        fifo.unlink(missing_ok=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
