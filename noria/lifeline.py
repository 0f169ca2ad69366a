"""What ties stages to the run that started them: a FIFO that the kernel closes, however the run ends.

A module of its own, since every stage loads it before anything else.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

LIFELINE = "NORIA_LIFELINE"
"""Environment variable of stages: the FIFO whose write end the runner holds for as long as it lives."""


class Lifeline:
    """A FIFO's write end, named in the environment: the kernel closes it however this process ends."""

    def __init__(self, fifo: Path) -> None:
        self._fifo = fifo
        self._lock = threading.Lock()
        self._end: int | None = None

    def __enter__(self) -> Lifeline:
        self._fifo.unlink(missing_ok=True)
        os.mkfifo(self._fifo, mode=0o600)
        self._end = os.open(self._fifo, os.O_RDWR)  # with O_WRONLY, open would wait for the first stage
        self._before = {name: os.environ.get(name) for name in (LIFELINE, "PATH")}
        os.environ[LIFELINE] = str(self._fifo)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return self

    def cut(self) -> None:
        """End the stages that run; one that starts finds no FIFO and ends at once."""
        with self._lock:
            if self._end is not None:
                self._fifo.unlink(missing_ok=True)
                os.close(self._end)
                self._end = None

    def __exit__(self, *_: object) -> None:
        self.cut()
        for name, value in self._before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
