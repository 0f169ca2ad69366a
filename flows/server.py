"""A Prefect server for as long as a run lasts, where nobody runs one: its database stays in the workspace.

It starts while this process still imports what the flow needs, on a socket that is bound already:
a request that comes early waits in its queue, so nothing polls and no port can be taken meanwhile.
It ends with its standard input, that is with the run, whatever ends the run.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from noria.errors import ConfigError, WorkspaceBusy
from noria.lease import is_marked, marked
from noria.report.links import REPORTS_URL
from noria.workspace import Workspace

_ANSWER_S = 10.0
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # that UI asks a service on the internet for settings, analytics or not
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # a person reads one line a node, from tasks.prefect_task
    "PREFECT_CLI_COLORS": "false",
}


@dataclass(frozen=True)
class RunningStack:
    """Where `noria up` answers: the URL of Prefect's API, and that at which browsers find the reports."""

    api: str
    reports: str


@contextmanager
def prefect_api(workspace: Workspace) -> Iterator[str]:
    """The URL of the API that runs report to, also in the environment.

    That is the given one, or that of `noria up`, which shows the reports, too, or our own server's.

    Use it before Prefect is imported: Prefect reads its settings once.

    Raises
    ------
    ConfigError
        When nobody answers at the given URL.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if given := os.environ.get("PREFECT_API_URL"):
        _check_answers(given)
    stack = running_stack(workspace)
    if stack is None and not given:
        with _own_api(workspace) as url:
            yield url
        return
    found = {"PREFECT_API_URL": stack.api, REPORTS_URL: stack.reports} if stack else {}
    own = {name: value for name, value in found.items() if not os.environ.get(name)}
    os.environ.update(own)
    try:
        yield os.environ["PREFECT_API_URL"]
    finally:
        for name in own:
            del os.environ[name]


@contextmanager
def _own_api(workspace: Workspace) -> Iterator[str]:
    """That of a server of ours, which ends with the block."""
    home = Path(os.environ.setdefault("PREFECT_HOME", str(workspace.scratch / "prefect")))
    home.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        os.environ["PREFECT_SERVER_UI_API_URL"] = f"{url}/api"
        server = _start(bound, log=home / "server.log")
    try:
        yield f"{url}/api"
    finally:
        assert server.stdin is not None
        server.stdin.close()  # it ends by itself; nobody needs to wait for that
        del os.environ["PREFECT_API_URL"], os.environ["PREFECT_SERVER_UI_API_URL"]


@contextmanager
def published(workspace: Workspace, stack: RunningStack) -> Iterator[None]:
    """Let the runs in the workspace find what `noria up` runs, while the block runs.

    Raises
    ------
    WorkspaceBusy
        When another process does so already.
    """
    workspace.scratch.mkdir(exist_ok=True)
    lock = FileLock(workspace.scratch / "up.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        other = running_stack(workspace)
        raise WorkspaceBusy(
            f"`noria up` runs here already: its Prefect server is {other.api if other else 'starting'}",
            where=str(workspace.root),
            next_step="use that one, or end it first",
        ) from None
    try:
        with marked(_record(workspace), json.dumps(asdict(stack))):
            yield
    finally:
        lock.release()


def running_stack(workspace: Workspace) -> RunningStack | None:
    """What `noria up` runs for the workspace, if it does. Asking hinders nobody who wants to."""
    if not is_marked(_record(workspace)):
        return None
    try:
        return RunningStack(**json.loads(_record(workspace).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None  # written or removed this very moment, or by another release


def credentials() -> dict[str, str]:
    """The headers by which Prefect's API knows us, as Prefect's own client sends them."""
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _record(workspace: Workspace) -> Path:
    return workspace.scratch / "up.json"


def _check_answers(url: str) -> None:
    """Any HTTP answer will do: what the server thinks of us is Prefect's to say."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_ANSWER_S):
            pass
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Prefect server answers: {error}",
            where=f"PREFECT_API_URL={url}",
            expected="a server as `prefect server start` runs it, for example http://127.0.0.1:4200/api",
            next_step="start it, or unset PREFECT_API_URL: each run then has a server of its own",
        ) from error


def _start(bound: socket.socket, *, log: Path) -> subprocess.Popen[bytes]:
    fd = bound.fileno()
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(fd)],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            pass_fds=[fd],
            start_new_session=True,  # Ctrl-C is for the run; the server must see the end of it
        )


def _serve(fd: int) -> None:
    os.environ["PREFECT__SERVER_EPHEMERAL"] = "1"  # no schedules, no late runs: only this run's records
    os.environ["PREFECT__SERVER_FINAL"] = "1"
    os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(uvicorn.Config(create_app, factory=True, log_level="error", lifespan="on"))

    def end() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=fd)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
