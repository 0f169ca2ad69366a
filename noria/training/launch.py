"""Starting the ranks of a distributed training on this host by torchrun, and listening to them.

A rank that dies ends all of them; torchrun starts them again, and they go on from the saved state.
A rank that has an error to tell tells it and ends well, so that nobody starts it again for the same.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from noria.config import Config, TrainConfig
from noria.errors import NoriaError, Preempted, StageFailed, TrainingError
from noria.events import emit
from noria.training.start import Material
from noria.training.state import Point

_POLL_S = 0.5
_GRACE_S = 45.0  # torchrun gives the ranks 30 s to save, then kills them
_GOODBYE_S = 10.0  # between a rank's error and the end of torchrun, which may wait for other hosts
_JOIN_S = 3_600  # hosts prepare their rows before they join, and need not be equally fast

Event = Mapping[str, Any]


def launch(
    material: Material,
    output: Path,
    *,
    config: Config,
    scratch: Path,
    on_metrics: Callable[[int, Mapping[str, float]], None],
    on_resources: Callable[[Mapping[str, object]], None],
    on_history: Callable[[Sequence[Point]], None],
) -> None:
    """Run `noria.training.worker` on every rank of this host, and wait.

    Raises
    ------
    Preempted
        When this process was told to end (SIGTERM), or that of another host was.
    NoriaError
        What a rank said, with its exit code; or that the ranks ended without a word.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    job, events = scratch / "job.json", scratch / "events.jsonl"
    content = {
        **material.paths,
        "output": str(output),
        "scratch": str(scratch),
        "events": str(events),
        "config": config.model_dump(mode="json"),
    }
    job.write_text(json.dumps(content), encoding="utf-8")
    events.unlink(missing_ok=True)
    for event in _listen(_command(job, config), events, max_restarts=config.train.max_restarts):
        match event:
            case {"kind": "point", "step": int(step), "values": dict(values)}:
                on_metrics(step, values)
            case {"kind": "resources", "values": dict(values)}:
                on_resources(values)
            case {"kind": "history", "points": list(points)}:
                on_history([Point(**point) for point in points])
            case _:
                pass


def _command(job: Path, config: Config) -> list[str]:
    train = config.train
    where = ["--standalone", "--local-addr=127.0.0.1"]
    if train.nodes > 1:
        theirs, ours = _route(train.rendezvous.rpartition(":")[0])
        settings = f"is_host={theirs == ours},join_timeout={_JOIN_S},read_timeout={_JOIN_S}"
        where = [f"--nnodes={train.nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={train.rendezvous}"]
        where += [f"--rdzv-id={config.name}", f"--rdzv-conf={settings}", f"--local-addr={ours}"]
    return [
        *(sys.executable, "-m", "noria.training.agent"),
        *(*where, f"--nproc-per-node={_num_ranks(train)}", f"--max-restarts={train.max_restarts}"),
        *("-m", "noria.training.worker", str(job)),
    ]


def _num_ranks(train: TrainConfig) -> int:
    num_gpus = 0 if train.device == "cpu" else torch.cuda.device_count()
    if num_gpus and train.processes > num_gpus:
        raise TrainingError(
            f"{train.processes} processes can't share {num_gpus} GPUs",
            where="params.yaml: train.processes",
            expected=f"at most {num_gpus} here",
            next_step="set `train.processes: 0` for one on each, or `train.device: cpu`",
        )
    return train.processes or num_gpus or 1


def _route(host: str) -> tuple[str, str]:
    """The address of a host, and ours towards it: they are the same where the host is this machine."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # chooses a way, and sends nothing
            return str(address[0]), str(probe.getsockname()[0])
    except OSError as error:
        raise TrainingError(
            f"there is no way from here to `{host}`: {error}",
            where="params.yaml: train.rendezvous",
            expected="HOST:PORT of one of the machines, as all of them know it",
        ) from error


@dataclass
class _Heard:
    """What the ranks that run now have said; ranks that start again begin the file anew."""

    path: Path
    events: list[Event] = field(default_factory=list)
    _begin: bytes = b""
    _offset: int = 0

    def news(self) -> list[Event]:
        """Since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            if (begin := file.readline()) != self._begin:
                self.events, self._begin, self._offset = [], begin, 0
            file.seek(self._offset)
            data = file.read()
        lines = data[: data.rfind(b"\n") + 1]
        self._offset += len(lines)
        news = [json.loads(line) for line in lines.splitlines()]
        self.events += [event for event in news if event["kind"] not in ("log", "progress")]
        return news

    def last(self, kind: str) -> Event | None:
        """The last event of a kind."""
        return next((event for event in reversed(self.events) if event["kind"] == kind), None)


def _listen(command: list[str], path: Path, *, max_restarts: int) -> list[Event]:
    """Pass on what is said while the ranks run; all of what the last ones said."""
    heard, said_goodbye = _Heard(path), float("inf")
    with _running(command) as process, _passing_on_the_end(process) as told_to_end:
        while process.poll() is None:
            _pass_on(heard.news())
            if heard.last("error") is not None:
                said_goodbye = min(said_goodbye, time.monotonic())
            if time.monotonic() - said_goodbye > _GOODBYE_S:
                break
            try:
                process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                continue
    _pass_on(heard.news())
    if (error := heard.last("error")) is not None:
        raise _as_told(error)
    if told_to_end.is_set():
        raise Preempted(
            "training was told to end (SIGTERM)",
            where="torchrun",
            next_step="run it again: it goes on where it was saved",
        )
    if process.returncode:
        raise _died(process.returncode, max_restarts=max_restarts)
    return heard.events


def _pass_on(news: list[Event]) -> None:
    """Tell our own listeners."""
    for event in news:
        if event["kind"] in ("log", "metric", "progress", "left_out"):
            emit(event["kind"], **{name: value for name, value in event.items() if name not in ("kind", "time")})


def _as_told(error: Event) -> NoriaError:
    """The error that a rank ended with, of its class."""
    kinds = {kind.exit_code: kind for kind in NoriaError.__subclasses__()}
    return kinds.get(error["exit_code"], NoriaError)(error["message"])


def _died(status: int, *, max_restarts: int) -> StageFailed:
    return StageFailed(
        f"the ranks of the training died, more often than `train.max_restarts` ({max_restarts}) lets them",
        where=f"torchrun, which ended with {status}",
        next_step="see what they wrote above; the next run goes on from the saved state",
    )


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that signals reach it once; it does not outlast the block."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _passing_on_the_end(process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """SIGTERM goes to torchrun, once, which passes it on to the ranks: they save, then all end."""
    told = threading.Event()

    def pass_on(signum: int, frame: FrameType | None) -> None:
        if not told.is_set():
            process.send_signal(signum)
        told.set()

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield told
        return
    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
