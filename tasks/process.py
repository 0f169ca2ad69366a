"""A stage's own process: events, time limit, and an end when the runner that started it ends.

The runner holds the write end of a FIFO open for as long as it lives (`noria.lease`). A stage reads
from it: end of file means that the runner was cancelled, terminated or killed, and the stage ends
its whole process group. The kernel closes the FIFO whatever happened, so no signal can be missed.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType

from noria.errors import NoriaError
from noria.events import emit, record
from noria.workspace import Workspace
from tasks.node import Node

LIFELINE = "NORIA_LIFELINE"
"""Environment variable: path of the runner's FIFO."""
_GRACE_S = 5.0
_FIRST_PARTY = ("noria", "tasks")
_MODULE_ENDS_S = 10.0

logger = logging.getLogger(__name__)


def run_node(first: Node, *, again: Node | None) -> None:
    """Parse the command line, run the node, exit."""
    parser = argparse.ArgumentParser(prog=f"python -m {_main_module()}", description=first.fn.__doc__)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    if again is not None:
        parser.add_argument("--again", action="store_true", help=f"be `{again.stage}`: {again.name}")
    args = parser.parse_args()
    chosen = again if again is not None and args.again else first
    workspace = Workspace.at(args.directory)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _terminate)
    if LIFELINE in os.environ:
        os.setpgid(0, 0)
        threading.Thread(target=_end_with_runner, args=(os.environ[LIFELINE],), daemon=True).start()
    with record(workspace.events(chosen.stage)):
        sys.exit(_run(chosen, workspace))


def _run(chosen: Node, workspace: Workspace) -> int:
    """Run within the time limit; an error becomes an event, a message and an exit code."""
    timer = threading.Timer(chosen.timeout_s, _time_out, args=(chosen,))
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(chosen.timeout_s + _MODULE_ENDS_S, exit=True)  # when no thread gets to run
    try:
        artifact = chosen.fn(workspace)
    except NoriaError as error:
        emit("error", message=str(error), exit_code=error.exit_code)
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    except OSError as error:
        emit("error", message=traceback.format_exc(), exit_code=1, errno=error.errno)
        raise
    except Exception:
        emit("error", message=traceback.format_exc(), exit_code=1)
        raise
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()
    emit("modules", modules=first_party_files())
    emit("done", path=str(artifact.path), digest=artifact.digest)
    return 0


def first_party_files() -> list[str]:
    """The library files that this process imported, relative to the code's root."""
    root = Path(__file__).parent.parent
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = sorted({Path(file).resolve() for file in files if file})
    return [
        path.relative_to(root).as_posix()
        for path in paths
        if path.is_relative_to(root) and path.relative_to(root).parts[0] in _FIRST_PARTY
    ]


def _main_module() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else "tasks"


def _terminate(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # unwinds, so that half-written artifacts are removed


def _time_out(chosen: Node) -> None:
    emit("error", message=f"{chosen.name} ran longer than its limit of {chosen.timeout_s:g} s", exit_code=124)
    print(f"{chosen.name} ran longer than {chosen.timeout_s:g} s; it stood here:", file=sys.stderr)  # noqa: T201
    faulthandler.dump_traceback()
    _end()


def _end_with_runner(fifo: str) -> None:
    """Wait for the end of the runner, then end this process and those that it started."""
    try:
        lifeline = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # without O_NONBLOCK, a dead runner would be waited for
    except FileNotFoundError:
        _end()
        return
    os.set_blocking(lifeline, True)
    os.read(lifeline, 1)
    _end()


def _end() -> None:
    if os.getpgrp() != os.getpid():  # the group is not ours: started by hand or by `dvc repro`
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        os.killpg(0, signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL) if os.getpgrp() != os.getpid() else os.killpg(0, signal.SIGKILL)
