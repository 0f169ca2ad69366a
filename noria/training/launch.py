"""Starting the ranks of a distributed training by torchrun, and listening to them.

A rank that dies ends all of them; torchrun starts them again, and they go on from the saved state.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from noria.config import Config
from noria.errors import NoriaError, StageFailed
from noria.events import emit
from noria.training.start import Material

logger = logging.getLogger(__name__)

_POLL_S = 0.5


def launch(
    material: Material,
    output: Path,
    *,
    config: Config,
    scratch: Path,
    on_metrics: Callable[[int, Mapping[str, float]], None],
    on_resources: Callable[[Mapping[str, object]], None],
) -> None:
    """Run `noria.training.worker` on every rank, and wait.

    Raises
    ------
    NoriaError
        What the leading rank said, with its exit code; or that the ranks ended without a word.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    events, job = scratch.with_name(f"{scratch.name}-ranks.jsonl"), scratch / "job.json"
    job.write_text(
        json.dumps(
            {
                **material.paths,
                "output": str(output),
                "scratch": str(scratch),
                "events": str(events),
                "config": config.model_dump(mode="json"),
            }
        ),
        encoding="utf-8",
    )
    events.unlink(missing_ok=True)
    heard = _listen(_command(job, config), events)
    for event in heard:
        match event:
            case {"kind": "metric", "step": int(step), "values": dict(values)}:
                on_metrics(step, values)
            case {"kind": "resources", "values": dict(values)}:
                on_resources(values)
            case _:
                pass
    events.unlink(missing_ok=True)


def _command(job: Path, config: Config) -> list[str]:
    processes = config.train.processes or torch.cuda.device_count() or 1
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc-per-node={processes}", f"--max-restarts={config.train.max_restarts}"),
        *("-m", "noria.training.worker", str(job)),
    ]


def _listen(command: list[str], events: Path) -> list[Mapping[str, object]]:
    """Pass on what is said while the ranks run; all of what the last ones said."""
    with subprocess.Popen(command) as process, _passing_on_the_end(process):
        offset = 0
        while process.poll() is None:
            offset = _pass_on(events, offset)
            try:
                process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                continue
        _pass_on(events, offset)
    said = [json.loads(line) for line in _lines(events, 0)[0]]
    if process.returncode:
        raise _failure(said, process.returncode)
    return said


def _pass_on(events: Path, offset: int) -> int:
    """Tell our own listeners the new lines; ranks that started again write a new file."""
    lines, offset = _lines(events, offset)
    for line in lines:
        event = json.loads(line)
        if event["kind"] in ("log", "metric", "progress"):
            emit(event.pop("kind"), **{name: value for name, value in event.items() if name != "time"})
    return offset


def _lines(events: Path, offset: int) -> tuple[list[bytes], int]:
    if not events.exists():
        return [], 0
    data = events.read_bytes()
    offset = offset if offset <= len(data) else 0
    end = data.rfind(b"\n") + 1
    return data[offset:end].splitlines(), max(end, offset)


def _failure(said: list[Mapping[str, object]], status: int) -> NoriaError:
    for event in reversed(said):
        match event:
            case {"kind": "error", "message": str(message), "exit_code": int(code)}:
                failed = NoriaError(message)
                failed.exit_code = code
                return failed
    return StageFailed(
        f"the ranks of the training ended with {status}",
        where="torchrun",
        next_step="see what they wrote above; the next run goes on from the saved state",
    )


@contextmanager
def _passing_on_the_end(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """SIGTERM goes to torchrun, which passes it on to the ranks: they save, then all end."""

    def pass_on(signum: int, frame: FrameType | None) -> None:
        process.send_signal(signum)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
