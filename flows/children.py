"""Child processes that are kept alive, each with a group of its own, and ended with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from noria.errors import StageFailed

_MOST_RESTARTS, _WITHIN_S = 5, 300.0
_READY_POLL_S = 5.0
_ENDS_S = 45.0
"""A training saves its state within 30 s of being told to end (tasks.process)."""

Say = Callable[[str, str], None]
"""Takes who says it and what."""


class Child:
    """A process that is kept alive once it is `ready` to be started; what it says is passed on line by line."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        say: Say,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name, self._command, self._env, self._cwd, self._say, self._ready = name, command, env, cwd, say, ready
        self._process: subprocess.Popen[str] | None = None
        self._deaths: deque[float] = deque(maxlen=_MOST_RESTARTS)
        self._again_at = 0.0

    def keep(self) -> None:
        """Start it unless it runs; wait a little longer after each death.

        Raises
        ------
        StageFailed
            When it died too often.
        """
        now = time.monotonic()
        if self._process is not None and (status := self._process.poll()) is not None:
            self._deaths.append(now)
            self._process = None
            recent = [at for at in self._deaths if now - at < _WITHIN_S]
            if len(recent) == _MOST_RESTARTS:
                raise StageFailed(
                    f"{self.name} ended {_MOST_RESTARTS} times in {_WITHIN_S / 60:g} minutes, at last with {status}",
                    where=" ".join(self._command),
                    next_step="the log above has its own words",
                )
            self._again_at = now + 2.0 ** (len(recent) - 1)
            self._say(self.name, f"ended with {status}; it is started again")
        if self._process is None and now >= self._again_at:
            if self._ready():
                self._start()
            else:
                self._again_at = now + _READY_POLL_S

    def end(self) -> None:
        """End it and all that it started; what does not end in time is killed."""
        if self._process is None:
            return
        family = _family(self._process.pid)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=_ENDS_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the stack, which ends them in order
        )
        threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True).start()

    def _pass_on(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._say(self.name, line.rstrip())


def _family(pid: int) -> list[psutil.Process]:
    """The process and all that descend from it, whatever group they made for themselves."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
