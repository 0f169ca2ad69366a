"""What a stage says while it runs: log lines, progress and metrics, to people and to the Prefect task.

A stage is a process of its own, so it speaks through a file, one JSON object a line:
`{"time": seconds, "kind": "log" | "progress" | "metric" | "modules", …}`. On a terminal the same
progress is a bar; elsewhere it is a plain line now and then.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

logger = logging.getLogger("noria")

_PLAIN_EVERY_S = 10.0
_EVENT_EVERY_S = 0.5
_file: FileIO | None = None


@contextmanager
def record(path: Path) -> Iterator[None]:
    """Write this process's events to `path` until the block ends."""
    global _file
    handler = _EventHandler()
    with _opened(path) as _file:
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            _file = None


@contextmanager
def _opened(path: Path) -> Iterator[FileIO | None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "w")  # without a buffer: what a full disk refused is not tried again
    except OSError as error:
        logger.warning("%s can't be written: %s", path, error)
        yield None
        return
    with file:
        yield file


def emit(kind: str, **fields: object) -> bool:
    """Write one event, when anybody listens; whether it was written.

    An event that finds no room on the disk is lost: what the stage has to do matters more.
    """
    if _file is None:
        return False
    event = {"time": round(time.time(), 3), "kind": kind, **fields}
    line = (json.dumps(event, ensure_ascii=False) + "\n").encode("utf-8", "replace")  # broken bytes of a source
    try:
        return _file.write(line) == len(line)
    except OSError:
        return False


def log_metrics(step: int, values: Mapping[str, float]) -> None:
    """One point of one or more curves."""
    emit("metric", step=step, values=dict(values))


class Progress:
    """A bar on a terminal, a plain line every ten seconds off it, and events in any case; or nothing of it."""

    def __init__(self, description: str, total: int, unit: str, *, shown: bool = True) -> None:
        self._shown = shown
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self.stats: dict[str, float] = {}
        self._start = self._said = self._emitted = time.monotonic()

    def advance(self, count: int = 1, **stats: float) -> None:
        """Count `count` more as done; `stats` (loss, tokens_per_s …) are shown beside the bar."""
        self.done += count
        self.stats.update(stats)
        if not self._shown:
            return
        now = time.monotonic()
        if now - self._emitted >= _EVENT_EVERY_S:
            self._emitted = now
            emit("progress", description=self.description, done=self.done, total=self.total, stats=self.stats)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self._bar(now)}")
        elif now - self._said >= _PLAIN_EVERY_S:
            self._said = now
            print(self._line(now), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Say how it ended."""
        if not self._shown:
            return
        now = time.monotonic()
        emit("progress", description=self.description, done=self.done, total=self.total, stats=self.stats)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self._bar(now)}\n")
        elif now - self._start >= _PLAIN_EVERY_S:
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        elapsed = now - self._start
        left = elapsed / self.done * (self.total - self.done) if self.done else float("nan")
        stats = "".join(f"  {name} {value:,.4g}" for name, value in self.stats.items())
        return (
            f"{self.description}: {self.done:,}/{self.total:,} {self.unit}{stats}  {elapsed:.0f} s, {left:.0f} s left"
        )

    def _bar(self, now: float) -> str:
        filled = 24 * self.done // max(self.total, 1)
        return f"[{'█' * filled}{'·' * (24 - filled)}] {self._line(now)}"


@contextmanager
def progress(description: str, *, total: int, unit: str = "rows", shown: bool = True) -> Iterator[Progress]:
    """Show progress for as long as the block runs; not `shown`, it is only counted."""
    counted = Progress(description, total, unit, shown=shown)
    try:
        yield counted
    finally:
        counted.close()


class _EventHandler(logging.Handler):
    def emit(self, log: logging.LogRecord) -> None:
        emit("log", level=log.levelname, message=log.getMessage())
