"""A server in a process of its own, and what a load on it showed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.peers.contender import PYTHON, REPOSITORY

Body = Callable[[str], Mapping[str, object]]
_START_S = 120.0
_QUIET = {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, eq=False)
class Server:
    """Who serves.

    Attributes
    ----------
    name, module:
        In tables; and what runs as `python -m MODULE MODELS PORT`.
    package:
        Without it in its environment the server is left out; None for what Noria itself needs.
    body:
        A request for one text.
    settings:
        Of ours, under `serve`.
    """

    name: str
    module: str
    package: str | None = None
    body: Body = lambda text: {"text": text}
    settings: Mapping[str, object] = field(default_factory=dict)

    def python(self, peers_pythons: Sequence[Path]) -> Path | None:
        """The interpreter that it runs in: the first that has it, or None."""
        if self.package is None:
            return Path(sys.executable)
        command = ["-c", f"import {self.package}"]
        return next(
            (python for python in peers_pythons if python.exists() and _succeeds([str(python), *command])), None
        )


OURS = Server("Noria", "benchmarks.servers.noria_server")
PEERS = (
    Server("FastAPI + PyTorch", "benchmarks.servers.torch_server"),
    Server("LitServe, same ONNX file", "benchmarks.servers.litserve_server", package="litserve"),
    Server(
        "BentoML, same ONNX file",
        "benchmarks.servers.bentoml_server",
        package="bentoml",
        body=lambda text: {"texts": [text]},
    ),
)
PEERS_PYTHON = PYTHON


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    pid: int

    def load(self, bodies: Path, *, clients: int, seconds: float, rate: float | None = None) -> Mapping[str, float]:
        """What a load from another process showed."""
        command = [sys.executable, "-m", "benchmarks.servers.load", self.url, str(bodies)]
        command += ["--clients", str(clients), "--seconds", str(seconds)]
        command += [] if rate is None else ["--rate", str(rate)]
        done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True)
        found: Mapping[str, float] = json.loads(done.stdout)
        return found

    @property
    def memory_mib(self) -> float:
        """Resident memory of its process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def running(server: Server, models: Path, *, first: bytes, python: Path) -> Iterator[Running]:
    """The server, from its first answer to the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command: Sequence[str] = [str(python), "-m", server.module, str(models), str(port)]
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    command = [*command, json.dumps(server.settings)] if server.settings else command
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **_QUIET, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}/predict"
            _wait(url, first, process, server)
            yield Running(url, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait(url: str, first: bytes, process: subprocess.Popen[bytes], server: Server) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            if httpx.post(url, content=first, headers={"Content-Type": "application/json"}, timeout=10).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{server.name} did not start: python -m {server.module} says why")
        time.sleep(0.3)
