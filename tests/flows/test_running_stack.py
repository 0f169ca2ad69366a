"""Whether `noria up` runs in a workspace: who asks is told the truth, and keeps nobody from starting it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.server import RunningStack, prefect_api, published, running_stack
from noria.errors import WorkspaceBusy
from noria.report.links import REPORTS_URL
from noria.workspace import Workspace

STACK = RunningStack("http://127.0.0.1:1/api", "http://127.0.0.1:2")
KILLED = """
import os, signal, sys
from flows.server import RunningStack, published
from noria.workspace import Workspace
with published(Workspace.at(sys.argv[1]), RunningStack("http://127.0.0.1:1/api", "http://127.0.0.1:2")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace.at(tmp_path)


def test_of_a_stack_that_was_killed_nobody_is_told_however_many_ask_at_once(workspace):
    subprocess.run([sys.executable, "-c", KILLED, str(workspace.root)], check=False)
    assert (workspace.scratch / "up.json").exists()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: running_stack(workspace), range(1_000))) == {None}


def test_who_asks_keeps_no_stack_from_starting(workspace):
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            running_stack(workspace)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for _ in range(300):
                with published(workspace, STACK):
                    assert running_stack(workspace) == STACK
        finally:
            ended.set()
        assert [each.result() for each in asking] == [None, None]


def test_a_second_stack_is_told_where_the_first_is_and_nothing_is_left_of_both(workspace):
    assert running_stack(workspace) is None
    with published(workspace, STACK):
        with pytest.raises(WorkspaceBusy, match=STACK.api), published(workspace, STACK):
            pass
        assert running_stack(workspace) == STACK
    assert running_stack(workspace) is None and not (workspace.scratch / "up.json").exists()


def test_runs_that_report_to_a_server_of_others_link_to_the_reports_of_the_stack_beside_them(workspace, monkeypatch):
    monkeypatch.delenv(REPORTS_URL, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server, published(workspace, STACK):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", url := f"http://127.0.0.1:{server.server_port}/api")
        with prefect_api(workspace) as api:
            assert (api, os.environ[REPORTS_URL]) == (url, STACK.reports)
        assert os.environ["PREFECT_API_URL"] == url and REPORTS_URL not in os.environ
        server.shutdown()
