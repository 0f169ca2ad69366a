"""The Prefect task of a node: asks DVC for the stage (or runs the process), and shows what came of it."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.exceptions import StageCmdFailedError
from prefect import Task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed

from noria.artifacts import Artifact, read_artifact
from noria.errors import (
    ArtifactError,
    ConfigError,
    DiskFull,
    ExportError,
    GateRefused,
    NoriaError,
    StageFailed,
    TrainingError,
)
from noria.traces import span
from noria.workspace import Workspace
from tasks.follow import Heard, follow
from tasks.history import Attempt, Ended, remember
from tasks.node import Node
from tasks.process import disk_full
from tasks.repository import with_repository

_RETRY_DELAY_S = 5.0
_FINAL = {kind.exit_code for kind in (ConfigError, GateRefused, ArtifactError, TrainingError, ExportError, DiskFull)}

terminal = logging.getLogger("noria.flow")
"""One line a node, for a person at a terminal."""


def build_task(node: Node) -> Task[..., Artifact]:
    """A task that takes the workspace and the artifacts it follows, and returns the node's artifact."""

    logging.getLogger("dvc").setLevel(logging.WARNING)  # one line a node is enough

    def run(workspace: Workspace, *upstream: Artifact) -> Artifact:
        with span(node.name, attributes={"noria.stage": node.stage}) as traced:
            artifact, ran = _run(node, workspace)
            traced.note("noria.state", "ran" if ran else "cached")
        # Prefect unwraps a returned state: to whoever asks for the result, it is the artifact
        return artifact if ran else cast("Artifact", Completed(name="Cached", message="nothing changed", data=artifact))

    return Task(
        run,
        name=node.name,
        task_run_name=node.name,
        description=node.fn.__doc__,
        tags=node.tags,
        retries=node.retries,
        retry_delay_seconds=_RETRY_DELAY_S,
        retry_condition_fn=may_help,
        cache_policy=NO_CACHE,  # DVC is the only cache
        persist_result=False,
    )


def may_help(task: Task[..., Artifact], task_run: TaskRun, state: State[Artifact]) -> bool:
    """Whether another attempt can end otherwise: not where a person has to put something right first.

    A stage that was told to end and saved its state (`Preempted`) goes on from there.
    """
    return not (isinstance(state.data, NoriaError) and state.data.exit_code in _FINAL)


def _run(node: Node, workspace: Workspace) -> tuple[Artifact, bool]:
    """The node's artifact, and whether anything ran to make it."""
    started = time.monotonic()
    state: Ended = "failed"
    heard = Heard()
    try:
        with follow(workspace.events(node.stage), key=node.key, logger=get_run_logger()) as heard:
            output = (_reproduce if node.pure else _run_process)(node, workspace)
        artifact = read_artifact(output or _made(heard), verify=False)  # whoever computes with it verifies it
        create_markdown_artifact(node.summary(workspace), key=node.key, description=node.name)
        state = "ran" if heard.ran else "cached"
    except (DvcException, subprocess.CalledProcessError) as error:
        raise _failure(node, workspace, heard, cause=error) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(workspace, error) from error
        raise
    finally:
        _remember(node, workspace, state=state, seconds=time.monotonic() - started, own_s=heard.own_s)
    return artifact, heard.ran


def _reproduce(node: Node, workspace: Workspace) -> Path | None:
    """Have DVC reproduce the stage, of the workspace that is the current directory; returns its first output."""

    def reproduce(repo: Repo) -> Path:
        repo.reproduce([*node.through, node.stage], single_item=True)
        (stage,) = repo.stage.collect(node.stage)
        return Path(stage.outs[0].fs_path)

    return with_repository(workspace, reproduce)


def _run_process(node: Node, workspace: Workspace) -> Path | None:
    """Run a node with side effects; it says itself what it made."""
    command = [sys.executable, "-m", node.fn.__module__, "-C", str(workspace.root)]
    subprocess.run(command, cwd=workspace.root, check=True)
    return None


def _made(heard: Heard) -> Path:
    assert heard.path is not None, "a process that ended well has said what it made"
    return heard.path


def _failure(node: Node, workspace: Workspace, heard: Heard, *, cause: Exception) -> NoriaError:
    """The stage's own account of what went wrong, or DVC's where no stage was started."""
    reason = cause
    while isinstance(reason.__cause__, Exception):
        reason = reason.__cause__
    if not heard.error and isinstance(reason, OSError) and reason.errno == errno.ENOSPC:
        return disk_full(workspace, reason)  # while DVC took the results into its cache
    said = heard.error
    if not said and isinstance(reason, StageCmdFailedError | subprocess.CalledProcessError):
        if _status(reason) == DiskFull.exit_code:  # no room for its own account either
            return disk_full(workspace, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        said = _how_it_ended(_status(reason)) + "".join(f"\n  it said:  {line}" for line in heard.last_lines)
    failed = StageFailed(f"{node.name}: {said or reason}")
    failed.exit_code = heard.exit_code if heard.error else StageFailed.exit_code
    return failed


def _how_it_ended(status: int) -> str:
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "its process was killed (SIGKILL: out of memory, or by hand)"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process exited with {status}"


def _status(error: StageCmdFailedError | subprocess.CalledProcessError) -> int:
    if isinstance(error, subprocess.CalledProcessError):
        return error.returncode
    return int(str(error).rsplit(" ", 1)[1])  # "failed to run: …, exited with -9"


def _remember(node: Node, workspace: Workspace, *, state: Ended, seconds: float, own_s: float) -> None:
    """Add to the history that `noria plan` and `noria status` read, and tell the terminal."""
    context = TaskRunContext.get()
    attempt = Attempt(
        run=str(context.task_run.flow_run_id) if context else "",
        stage=node.stage,
        state=state,
        seconds=round(seconds, 3),
        own_s=own_s,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    remember(workspace, attempt)
    terminal.info("%-22s %8.1f s  %s", node.name, seconds, state)
