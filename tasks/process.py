"""A stage's own process: events, a time limit, and an end when the runner that started it ends.

The runner holds the write end of a FIFO open for as long as it lives (`noria.lifeline`), and the stage
reads from it: end of file means that the runner was cancelled, terminated or killed, and the stage
ends its whole process group. The kernel closes the FIFO whatever happened, so no signal is missed.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import faulthandler
import gc
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from noria.artifacts import Artifact
from noria.errors import DiskFull, NoriaError, Preempted
from noria.events import emit, record
from noria.lifeline import LIFELINE
from noria.traces import span
from noria.workspace import Workspace
from tasks.node import Node

CODE_ROOT = Path(__file__).resolve().parent.parent
_FIRST_PARTY = ("noria", "tasks")
_GRACE_S = 35.0  # a training saves its state within 30 s; a stage that ends at once is not held up
_TIMED_OUT = 124


def run_node(first: Node, *, again: Node | None) -> None:
    """Parse the command line, run the node, exit."""
    parser = argparse.ArgumentParser(description=first.fn.__doc__)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    if again is not None:
        parser.add_argument("--again", action="store_true", help=f"be the stage `{again.stage}`")
    args = parser.parse_args()
    chosen = again if again is not None and args.again else first
    workspace = Workspace.at(args.directory)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for package in (*_FIRST_PARTY, "__main__"):
        logging.getLogger(package).setLevel(logging.INFO)
    atexit.register(gc.freeze)  # a process that ends has no use for what a last collection would free
    signal.signal(signal.SIGTERM, _terminate)
    if LIFELINE in os.environ:  # under a runner: a group of our own, which ends with it
        os.setpgid(0, 0)
        threading.Thread(target=_end_with_runner, args=(Path(os.environ[LIFELINE]),), daemon=True).start()
    with record(workspace.events(chosen.stage)), span(f"process {chosen.stage}") as traced:
        if status := _run(chosen, workspace):
            traced.fail(f"exit status {status}")
    sys.exit(status)


def _run(chosen: Node, workspace: Workspace) -> int:
    """Run the node; an error becomes an event, a message and an exit code."""
    emit("started", stage=chosen.stage, pid=os.getpid())
    started = time.monotonic()
    try:
        artifact = _run_in_time(chosen, workspace)
    except NoriaError as error:
        return _fail(error)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail(disk_full(workspace, error))
        return _crash()
    except Exception:  # noqa: BLE001 - the edge of the process: whatever it was is reported whole
        return _crash()
    seconds = round(time.monotonic() - started, 3)
    emit("modules", modules=first_party_files())
    emit("done", path=str(artifact.path), digest=artifact.digest, seconds=seconds)
    return 0


def _run_in_time(chosen: Node, workspace: Workspace) -> Artifact:
    late = threading.Event()
    timer = threading.Timer(chosen.timeout_s, _time_out, args=(chosen, late))
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(chosen.timeout_s + _GRACE_S, exit=True)  # where no thread gets to run
    try:
        return chosen.fn(workspace)
    except Preempted:
        if late.is_set():  # by our own clock, and that has been said
            sys.exit(_TIMED_OUT)
        raise
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()


def disk_full(workspace: Workspace, error: OSError) -> DiskFull:
    """What to say when a write found no room."""
    free_mb = shutil.disk_usage(workspace.root).free / 1e6
    return DiskFull(
        "the disk is full",
        where=f"{error.filename or workspace.root} ({free_mb:,.0f} MB free)",
        next_step="make room (`dvc gc -w` drops cached results that nothing uses), then `noria run` goes on from here",
    )


def first_party_files() -> list[str]:
    """The files of the library that this process imported, relative to the code's root."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(file).resolve() for file in files if file}
    inside = (path.relative_to(CODE_ROOT) for path in paths if path.is_relative_to(CODE_ROOT))
    return sorted(path.as_posix() for path in inside if path.parts[0] in _FIRST_PARTY)


def _fail(error: NoriaError) -> int:
    _say(str(error), exit_code=error.exit_code)
    return error.exit_code


def _crash() -> int:
    """A fault of ours: the whole traceback."""
    _say(traceback.format_exc(), exit_code=1)
    return 1


def _say(message: str, *, exit_code: int) -> None:
    """Tell what went wrong: to the runner, which passes it on, or to whoever started the stage by hand."""
    heard = emit("error", message=message, exit_code=exit_code)
    if not heard or LIFELINE not in os.environ:
        print(message, file=sys.stderr)  # noqa: T201


def _terminate(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # unwinds, so that half-written artifacts are removed


def _time_out(chosen: Node, late: threading.Event) -> None:
    late.set()
    message = f"`{chosen.stage}` ran longer than its limit of {chosen.timeout_s:g} s"
    emit("error", message=message, exit_code=_TIMED_OUT)
    print(f"{message}; it stood here:", file=sys.stderr)  # noqa: T201
    faulthandler.dump_traceback()
    _end_group()


def _end_with_runner(fifo: Path) -> None:
    try:
        lifeline = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # open must not wait for a runner that is gone
        os.set_blocking(lifeline, True)
        os.read(lifeline, 1)  # returns at end of file
    except FileNotFoundError:
        pass  # the runner is gone already
    _end_group()


def _end_group() -> None:
    """End this process and, where the group is its own, all that it started."""
    send = os.killpg if os.getpgrp() == os.getpid() else os.kill
    send(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    send(os.getpid(), signal.SIGKILL)
