"""The local stack: Prefect server, worker, watch, reports and model server as children of one process, with one log.

Where PREFECT_API_URL names a server that others run, the stack has none of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows.children import Child, Say
from flows.server import QUIET, RunningStack, credentials, published
from noria.errors import NoriaError, StageFailed
from noria.report.links import REPORTS_URL
from noria.serving.address import is_wildcard, loopback, url_of
from noria.serving.store import store_of
from noria.workspace import Workspace

POOL, QUEUES = "noria", ("cpu", "gpu")
_START_S = 180.0
_ENDS_S = 60.0
_ANSWER_S = 5.0
_POLL_S = 0.5


@dataclass(frozen=True)
class Addresses:
    """Where the stack listens. `api` is None where PREFECT_API_URL names a server that others run."""

    host: str
    port: int
    serve_port: int
    reports_port: int
    api: str | None = None

    @property
    def own_api(self) -> str:
        """The API of the Prefect server, as processes of this machine reach it."""
        return self.api or f"{url_of(loopback(self.host), self.port)}/api"

    @property
    def ui(self) -> str:
        """What people open to see the runs: one can't open all addresses, but a machine by its name."""
        return self.api.removesuffix("/api") if self.api else url_of(self._name, self.port)

    @property
    def reports(self) -> str:
        """What they open to see the reports."""
        return url_of(self._name, self.reports_port)

    @property
    def _name(self) -> str:
        return socket.gethostname() if is_wildcard(self.host) else self.host


class Stack:
    """All of it. `say` gets every line of the log."""

    def __init__(self, workspace: Workspace, addresses: Addresses, *, say: Say) -> None:
        self._workspace, self._addresses, self._say = workspace, addresses, say
        self._api = addresses.own_api
        home = os.environ.get("PREFECT_HOME", str(workspace.scratch / "prefect"))
        Path(home).mkdir(parents=True, exist_ok=True)
        own = {"PREFECT_HOME": home, "PREFECT_API_URL": self._api}
        seen = {REPORTS_URL: addresses.reports}  # whoever has a proxy before it says otherwise
        if addresses.api is None:
            seen["PREFECT_UI_URL"] = addresses.ui
        quiet = {name: value for name, value in QUIET.items() if name != "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"}
        self._env = {**quiet, **seen, "PYTHONUNBUFFERED": "1", **os.environ, **own, "PWD": str(workspace.root)}
        self._children: list[Child] = []
        self._next_told = False

    def run(self, until: threading.Event) -> None:
        """Start everything, keep it alive until told to end, end everything.

        Raises
        ------
        WorkspaceBusy
            When the stack of this workspace runs already.
        StageFailed
            When a part of it can't be kept alive.
        """
        with published(self._workspace, RunningStack(self._api, self._env[REPORTS_URL])):
            try:
                self._start_server(until)
                if not until.is_set():
                    self._register()
                    self._start_others()
                    self._tell_addresses()
                while not until.wait(_POLL_S):
                    for child in self._children:
                        child.keep()
                    self._tell_next()
            finally:
                self._end()

    def _start_server(self, until: threading.Event) -> None:
        if self._addresses.api is None:
            listen = ["--host", self._addresses.host, "--port", str(self._addresses.port)]
            # of whatever address the UI was opened at
            server = self._child("server", "prefect", "server", "start", *listen, PREFECT_SERVER_UI_API_URL="/api")
            self._children.append(server)
        deadline = time.monotonic() + _START_S
        while not until.wait(_POLL_S) and _ask(f"{self._api}/health") is None:
            for child in self._children:
                child.keep()
            if time.monotonic() > deadline:
                raise StageFailed(f"the Prefect server does not answer within {_START_S:g} s", where=self._api)

    def _register(self) -> None:
        """Make the pool and its queues, and tell the server what `prefect.yaml` says; again: no change."""
        if _ask(f"{self._api}/work_pools/{POOL}") is None:  # one that is there stays as its owners have it
            self._prefect("work-pool", "create", POOL, "--type", "process")
        for queue in QUEUES:  # a worker gets nothing from any of its queues while one does not exist
            _ask(f"{self._api}/work_pools/{POOL}/queues", {"name": queue})  # it refuses one that exists
        self._prefect("--no-prompt", "deploy", "--all")

    def _prefect(self, *arguments: str) -> None:
        """Run one command of Prefect's; what it says matters only when it fails."""
        command = [sys.executable, "-m", "prefect", *arguments]
        root = self._workspace.root
        done = subprocess.run(command, env=self._env, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StageFailed(
                f"`prefect {' '.join(arguments)}` exited with {done.returncode}:\n{done.stdout}{done.stderr}",
                where=str(root / "prefect.yaml"),
                next_step=f"`noria init {root}` writes the file where it is missing",
            )

    def _start_others(self) -> None:
        queues = [part for queue in QUEUES for part in ("--work-queue", queue)]
        root = str(self._workspace.root)
        self._children.append(self._child("watch", "flows.watch"))
        self._children.append(self._child("worker", "prefect", "worker", "start", "--pool", POOL, *queues))
        reports = ["--host", self._addresses.host, "--port", str(self._addresses.reports_port)]
        self._children.append(self._child("reports", "noria.cli", "reports", "-C", root, *reports))
        serve = ["serve", "-C", root, "--port", str(self._addresses.serve_port)]
        self._children.append(self._child("serve", "noria.cli", *serve, ready=self._is_live))

    def _tell_addresses(self) -> None:
        self._say("noria", f"Prefect UI: {self._env.get('PREFECT_UI_URL', self._addresses.ui)}")
        self._say("noria", f"reports: {self._env[REPORTS_URL]}")
        self._say("noria", f"model server, once a model is live: http://127.0.0.1:{self._addresses.serve_port}")

    def _is_live(self) -> bool:
        """Whether there is a model to be served; an unreachable store is the server's to complain of."""
        try:
            return store_of(self._workspace).production() is not None
        except NoriaError:
            return True

    def _child(
        self, name: str, module: str, *arguments: str, ready: Callable[[], bool] = lambda: True, **env: str
    ) -> Child:
        command = [sys.executable, "-m", module, *arguments]
        return Child(name, command, env=self._env | env, cwd=self._workspace.root, say=self._say, ready=ready)

    def _tell_next(self) -> None:
        if not self._next_told and (found := next_runs(self._api, self._workspace.config.name, most=1)):
            self._next_told = True
            self._say("noria", f"next by schedule: {found[0].astimezone().isoformat(sep=' ', timespec='seconds')}")

    def _end(self) -> None:
        """Workers before the watch looks a last time, and the server last: it is to hear how every run ended."""
        self._say("noria", "ending")
        server = self._children[:1] if self._addresses.api is None else []
        for child in reversed(self._children[len(server) :]):
            child.end()
        if len(self._children) > len(server):
            with suppress(subprocess.TimeoutExpired):  # the server is ended all the same
                subprocess.run(
                    [sys.executable, "-m", "flows.watch", "--once"], env=self._env, check=False, timeout=_ENDS_S
                )
        for child in server:
            child.end()


def next_runs(api: str, name: str, *, most: int) -> list[datetime]:
    """When the schedules of workspace `name` are due, soonest first; empty too where the server does not answer."""
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "deployments": {"name": {"any_": [name]}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": most,
    }
    answer = _ask(f"{api}/flow_runs/filter", wanted)
    return [datetime.fromisoformat(run["expected_start_time"]) for run in json.loads(answer or b"[]")]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


def _ask(url: str, body: object = None) -> bytes | None:
    """What a server of ours answers, or None while it does not."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **credentials()})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return bytes(answer.read())
    except (OSError, ValueError):
        return None
