"""One run at a time in a workspace and for a model, and stages that end with the run that started them.

On one machine the kernel's file lock decides, which is let go of however its holder ends; between machines
the lease in the model store does (`noria.serving.lease`).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from noria.errors import WorkspaceBusy
from noria.lifeline import Lifeline
from noria.workspace import Workspace

if TYPE_CHECKING:
    from noria.serving.lease import Holder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """Who holds a workspace; `run` is Prefect's id of the flow run."""

    pid: int
    host: str
    since: str
    run: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def hold(workspace: Workspace, *, wait_s: float, run: str = "") -> Iterator[Holder | None]:
    """Occupy the workspace and hold the lease of its model; wait up to `wait_s` in all for whoever holds them.

    `run` is Prefect's id of the flow run. Yields the holder that the lease was taken from, if that one died with
    it. When the lease is lost, the stages end, and no other can start.

    Raises
    ------
    WorkspaceBusy
        When either is still held after `wait_s`, naming the owner; when the lease was lost.
    StoreError
        When the model store does not answer.
    """
    until = time.monotonic() + wait_s
    with occupy(workspace, wait_s=wait_s, run=run) as lifeline:
        wait_s = max(until - time.monotonic(), 0.0)
        with _leased(workspace, run, lifeline, wait_s=wait_s) as before:
            yield before


@contextmanager
def occupy(workspace: Workspace, *, wait_s: float, run: str = "") -> Iterator[Lifeline]:
    """Hold the workspace alone for as long as the block runs: enough for what changes nothing in the store.

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
        owner = Owner(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"), run)
        with (
            marked(_owner_file(workspace), json.dumps(asdict(owner))),
            chdir(workspace.root),
            Lifeline(workspace.scratch / "lifeline") as lifeline,
        ):
            yield lifeline
    finally:
        lock.release()


def holder(workspace: Workspace) -> Owner | None:
    """Who holds the workspace now; None when nobody does. Asking hinders nobody who wants it."""
    return _named(workspace) if is_marked(_owner_file(workspace)) else None


@contextmanager
def marked(path: Path, text: str = "") -> Iterator[None]:
    """A file that `is_marked` for as long as the block runs, and no longer than this process lives.

    It has its text and its lock before it has its name, so that nobody sees it without.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        new.replace(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_marked(path: Path) -> bool:
    """Whether whoever marked it is still at it, and was not killed: the kernel let go of the lock then."""
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _named(workspace: Workspace) -> Owner | None:
    try:
        return Owner(**json.loads(_owner_file(workspace).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # released this very moment, or written by another release


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
        raise _busy(str(_named(workspace)), where=str(workspace.root), wait_s=wait_s) from None


def _busy(owner: str, *, where: str, wait_s: float) -> WorkspaceBusy:
    return WorkspaceBusy(
        f"another run holds this workspace: {owner}",
        where=where,
        expected=f"that it ends within {wait_s:g} s",
        next_step="let it end, end that process, or wait longer with --wait-s",
    )


@contextmanager
def _leased(workspace: Workspace, run: str, lifeline: Lifeline, *, wait_s: float) -> Iterator[Holder | None]:
    """Hold the lease of the model; cut the lifeline of the stages when it is lost."""
    from noria.serving.lease import Holder, Lease, take  # here: stages import this module, and none takes a lease
    from noria.serving.objects import open_objects

    here = Holder(run, socket.gethostname(), os.getpid(), str(workspace.root))

    def is_gone(other: Holder) -> bool:
        return (other.host, other.workspace) == (here.host, here.workspace)  # we have the lock that it had

    name, where = workspace.config.name, f"{workspace.store}/{workspace.config.name}/lease.json"
    try:
        taken = take(open_objects(workspace.store), name, here, wait_s=wait_s, is_gone=is_gone)
    except TimeoutError as error:
        raise _busy(str(error), where=where, wait_s=wait_s) from None
    why: list[str] = []

    def lose(reason: str) -> None:
        logger.error("this run lost its lease and stops: %s", reason)
        why.append(reason)
        lifeline.cut()

    watched, holder, tag, before = taken
    lease = Lease(watched, holder, tag, lost=lose)
    try:
        yield before
    except Exception as error:
        if why:
            raise WorkspaceBusy(
                f"this run lost its lease: {why[0]}",
                where=where,
                expected="that the model store answers, and this machine is not stopped for a minute",
                next_step="what is live is untouched; run again, it goes on where this one stopped",
            ) from error
        raise
    finally:
        lease.release()
