"""Following a stage while it runs: its events go to the Prefect run's log, progress and learning curve."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from prefect import get_client
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.schemas.actions import ArtifactUpdate

from tasks.curve import Point, draw_curves

_POLL_S = 0.25
_SHOW_EVERY_S = 3.0
_KEPT_LINES = 5

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass
class Heard:
    """What a stage said."""

    ran: bool = False
    """A process was started: the result did not come from the cache."""
    own_s: float = 0.0
    """Seconds inside the node's function."""
    path: Path | None = None
    """The artifact it made."""
    error: str = ""
    """Its own account of what went wrong."""
    exit_code: int = 1
    last_lines: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)


@contextmanager
def follow(events: Path, *, key: str, logger: Logger) -> Iterator[Heard]:
    """Pass on what is written to `events` until the block ends; all of it is heard by then.

    Artifacts are published under `key`: `<key>-progress`, `<key>-curve`.
    """
    follower = _Follower(events, key=key, logger=logger)
    done = threading.Event()
    context = contextvars.copy_context()  # the thread publishes in the name of this task run
    thread = threading.Thread(target=context.run, args=(follower.run, done), daemon=True)
    thread.start()
    try:
        yield follower.heard
    finally:
        done.set()
        thread.join()
        follower.read()  # also when the server that is shown it answered the thread with an error


class _Follower:
    def __init__(self, events: Path, *, key: str, logger: Logger) -> None:
        self.heard = Heard()
        self._events, self._key, self._logger = events, key, logger
        self._before = _written_at(events)  # what is there now is of the run before
        self._offset = 0
        self._progress: tuple[UUID, float] | None = None  # the artifact, and when it was last written
        self._percent: tuple[float, str] | None = None
        self._curve: UUID | None = None
        self._curve_shown = time.monotonic()
        self._num_points_shown = 0

    def run(self, done: threading.Event) -> None:
        while not done.wait(_POLL_S):
            self.read()
            self._show(now=time.monotonic(), last=False)
        self.read()
        self._show(now=time.monotonic(), last=True)

    def read(self) -> None:
        """Hear the lines that were completed since the last look."""
        written_at = _written_at(self._events)
        if written_at is None or written_at == self._before:
            return
        with self._events.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # cut short by a full disk
                self._hear(event)

    def _hear(self, event: Mapping[str, object]) -> None:
        heard = self.heard
        match event:
            case {"kind": "started"}:
                heard.ran = True
            case {"kind": "log", "level": str(level), "message": str(message)}:
                self._logger.log(logging.getLevelNamesMapping().get(level, logging.INFO), message)
                heard.last_lines = [*heard.last_lines, message][-_KEPT_LINES:]
            case {"kind": "progress", "description": str(what), "done": int(num_done), "total": int(total)}:
                self._percent = (100.0 * num_done / max(total, 1), f"{what}: {num_done:,} of {total:,}")
            case {"kind": "metric", "step": int(step), "values": dict(values)}:
                heard.points.append((step, values))
            case {"kind": "error", "message": str(message), "exit_code": int(code)}:
                heard.error, heard.exit_code = message, code
            case {"kind": "done", "path": str(path), "seconds": float(seconds)}:
                heard.path, heard.own_s = Path(path), seconds

    def _show(self, *, now: float, last: bool) -> None:
        if self._percent and (self._progress is None or last or now - self._progress[1] > _SHOW_EVERY_S):
            self._show_progress(*self._percent, now=now)
        num_points = len(self.heard.points)
        if num_points > max(self._num_points_shown, 1) and (last or now - self._curve_shown > _SHOW_EVERY_S):
            self._show_curve()
            self._num_points_shown, self._curve_shown = num_points, now

    def _show_curve(self) -> None:
        """One artifact that is rewritten: a new one each time would stretch the run graph."""
        picture = draw_curves(self.heard.points)
        if self._curve is None:
            artifact = create_markdown_artifact(picture, key=f"{self._key}-curve", description="learning curve")
            assert isinstance(artifact, UUID)
            self._curve = artifact
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._curve, ArtifactUpdate(data=picture))

    def _show_progress(self, percent: float, description: str, *, now: float) -> None:
        if self._progress is None:
            artifact = create_progress_artifact(percent, key=f"{self._key}-progress", description=description)
            assert isinstance(artifact, UUID)
        else:
            artifact = self._progress[0]
            update_progress_artifact(artifact, percent, description=description)
        self._progress, self._percent = (artifact, now), None


def _written_at(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
