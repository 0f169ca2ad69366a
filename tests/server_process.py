"""`noria serve` as a process of its own, on a free port."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from workspaces import change_params, environment

from noria.serving.bundle import version_of
from noria.serving.store import store_of


def go_live(workspace, root):
    """A workspace at `root` with the same settings, whose store has the bundle of `workspace` live."""
    shutil.copyfile(workspace.params, root / "params.yaml")
    change_params(root, {"deploy": {"store": str(root / "store")}})
    live = type(workspace)(root)
    store = store_of(live)
    store.promote(version_of(store.publish(workspace.bundle)), reason="test", over=None)
    return live


@dataclass(frozen=True)
class Process:
    """A server under way."""

    url: str
    pid: int

    def connect(self):
        """A socket to it."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port), timeout=20)

    @property
    def most_memory_mb(self):
        """The largest that its resident memory was."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1_000


@contextmanager
def running(*workspaces, before="pass", **env):
    """`noria serve --port 0`, which must end when told to; `before` is run in it first."""
    program = f"import sys; {before}; from noria.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "serve", "--port", "0"]
    command += [part for workspace in workspaces for part in ("-C", str(workspace.root))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(**env)) as process:
        try:
            yield Process(re.search(r"http://[\d.:]+", process.stdout.readline()).group(), process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=40) in (0, -signal.SIGTERM)
        finally:
            process.kill()  # a test that fails must not wait for it
