"""`noria up` as a process of its own."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from contextlib import contextmanager

import psutil
from workspaces import environment, noria_command


class Up:
    """`noria up` under way, and its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines = process, []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def said(self, pattern, *, within_s=180):
        """What the log says that matches."""
        until = time.monotonic() + within_s
        while not (found := re.search(pattern, "\n".join(self.lines))):
            assert self.process.poll() is None and time.monotonic() < until, "\n".join(self.lines)
            time.sleep(0.2)
        return found

    @property
    def family(self):
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def up(root, *arguments, **env):
    """The stack of a workspace, on free ports; it is told to end when the block does."""
    command = noria_command("up", "--port", "0", "--serve-port", "0", "--reports-port", "0", *arguments)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=root, env=environment(**env), **options) as process:
        try:
            yield Up(process)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(180)
