"""One training in a process of its own: started, listened to, and ended.

The process leads a group of its own, so all that it starts ends with it. It inherits a lock on a
file in its directory: as long as the lock is held, somebody of that group is alive, whatever became
of the search that started it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

logger = logging.getLogger(__name__)

INTERRUPTED = 75
"""Exit status of a training that was told to end, saved its state, and can go on (EX_TEMPFAIL of sysexits.h)."""
FINAL_LOSS = "final_loss"
EPOCH_LOSS = "holdout_loss"

_POLL_S = 0.2
_GRACE_S = 40.0  # a training that is told to end saves its state within 30 s
_KEPT_LINES = 3


@dataclass(frozen=True)
class TrialFiles:
    """The directory of one trial."""

    root: Path

    @property
    def job(self) -> Path:
        """What to train, as JSON."""
        return self.root / "job.json"

    @property
    def events(self) -> Path:
        """What the training says (`noria.events`)."""
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        """What its process prints."""
        return self.root / "worker.log"

    @property
    def lock(self) -> Path:
        """Held by the process; holds its id."""
        return self.root / "worker.lock"

    @property
    def output(self) -> Path:
        """The checkpoint: of no use once its loss is known."""
        return self.root / "checkpoint"

    @property
    def scratch(self) -> Path:
        """The state that an interrupted training goes on from."""
        return self.root / "scratch"


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes
    ----------
    state:
        `interrupted` can be started again and goes on.
    metrics:
        What it said of the finished model: `final_loss`, accuracies.
    error:
        What went wrong, in its own words where it had any.
    """

    state: Literal["complete", "pruned", "failed", "interrupted"]
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


@dataclass
class _Heard:
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""


def run_worker(
    files: TrialFiles,
    *,
    on_epoch: Callable[[int, float], bool],
    stopping: Callable[[], bool],
    place: int | None = None,
) -> Ended:
    """Train what `files.job` says, or go on with it, until it ends or is ended.

    Parameters
    ----------
    on_epoch:
        (step, hold-out loss) at the end of each epoch -> is the trial worth its time? A resumed training may tell
        epochs again. Also of those that ended while nobody listened: the search was killed.
    stopping:
        Asked several times a second: has the search been told to stop?
    place:
        Among trials at once, which share the GPUs; None leaves them all to this one.
    """
    end_leftover(files)
    heard = _Heard()
    worth = [on_epoch(step, loss) for step, loss in _epochs(_new_events(files.events, 0)[0], heard)]
    if FINAL_LOSS in heard.metrics:
        return _finished(heard)
    if not all(worth):
        return Ended("pruned")
    files.events.unlink(missing_ok=True)
    process = _start(files, place)
    try:
        return _listen(process, files, on_epoch=on_epoch, stopping=stopping)
    finally:
        _end_group(process.pid, process.poll)


def unheard_s(files: TrialFiles, *, since: float) -> float:
    """How long the training was at work after `since` (as `time.time` tells it), by its own events."""
    times = [float(event["time"]) for event in _new_events(files.events, 0)[0]]
    return max(0.0, times[-1] - max(times[0], since)) if times else 0.0


def end_leftover(files: TrialFiles) -> None:
    """End the process that a killed search left in this directory, if it still runs."""
    if not files.lock.exists():
        return

    def gone() -> bool:
        with files.lock.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    group = files.lock.read_text()
    if not gone():
        logger.warning("ending the training in %s, which a killed search left", files.root)
        if group:
            _end_group(int(group), lambda: gone() or None)
        while not gone():  # the search was killed before it could note the process
            time.sleep(_POLL_S)


def _start(files: TrialFiles, place: int | None) -> subprocess.Popen[bytes]:
    words = [str(files.job), *([] if place is None else [str(place)])]
    with files.lock.open("w") as lock, files.log.open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-m", "noria.training.worker", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock.fileno()],  # the lock is the open file's: the process has it until it ends
            start_new_session=True,
        )
        lock.write(str(process.pid))
        lock.flush()
    return process


def _listen(
    process: subprocess.Popen[bytes],
    files: TrialFiles,
    *,
    on_epoch: Callable[[int, float], bool],
    stopping: Callable[[], bool],
) -> Ended:
    heard, offset = _Heard(), 0
    while True:
        status = process.poll()  # before reading: what is written by then is heard
        events, offset = _new_events(files.events, offset)
        for step, loss in _epochs(events, heard):
            if not on_epoch(step, loss) and status is None:
                return Ended("pruned")
        if status is not None:
            return _ended(status, heard, files)
        if stopping():
            _end_group(process.pid, process.poll)
            return Ended("interrupted")
        time.sleep(_POLL_S)


def _ended(status: int, heard: _Heard, files: TrialFiles) -> Ended:
    if status == 0 and FINAL_LOSS in heard.metrics:
        return _finished(heard)
    if status == INTERRUPTED:
        return Ended("interrupted")
    if heard.error:
        return Ended("failed", error=heard.error)
    how = f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it exited with {status}"
    lines = files.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_KEPT_LINES:]
    return Ended("failed", error="\n".join([f"{how} without a `{FINAL_LOSS}`", *lines]))


def _finished(heard: _Heard) -> Ended:
    """A loss that is no number compares with none: Optuna would drop the trial without a word."""
    loss = heard.metrics[FINAL_LOSS]
    return Ended("complete", heard.metrics) if math.isfinite(loss) else Ended("failed", error=f"its loss is {loss}")


def _epochs(events: list[dict[str, Any]], heard: _Heard) -> Iterator[tuple[int, float]]:
    """(step, hold-out loss) of the epochs among `events`; the rest that matters goes into `heard`."""
    for event in events:
        match event:
            case {"kind": "metric", "step": int(step), "values": dict(values)}:
                if FINAL_LOSS in values:
                    heard.metrics = {name: float(value) for name, value in values.items()}
                elif EPOCH_LOSS in values:
                    yield step, float(values[EPOCH_LOSS])
            case {"kind": "error", "message": str(message)}:
                heard.error = message


def _new_events(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The lines completed since `offset`, and where the next begins."""
    events = []
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            with suppress(ValueError):  # cut short by a full disk
                events.append(json.loads(line))
    return events, offset


def _end_group(group: int, ended: Callable[[], object]) -> None:
    """Ask the processes of a group to end and, after a while, have the kernel end them; returns when they have."""
    for number, patience_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        if ended() is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(group, number)
        until = time.monotonic() + patience_s
        while ended() is None and time.monotonic() < until:
            time.sleep(_POLL_S / 4)
    with suppress(ProcessLookupError):  # what outlived its leader
        os.killpg(group, signal.SIGKILL)
