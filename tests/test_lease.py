"""One run at a time, and stages that end with their run."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from noria.errors import WorkspaceBusy
from noria.lease import holder, occupy
from noria.lifeline import LIFELINE
from noria.workspace import Workspace

HOLDER = """
import sys, time
from noria.lease import occupy
from noria.workspace import Workspace
with occupy(Workspace.at(sys.argv[1]), wait_s=0):
    print("held", flush=True)
    time.sleep(60)
"""
STAGE = """
import subprocess, sys, time
from tasks.node import main, node
@node("sleep", summary=str, timeout_s=float(sys.argv.pop(1)))
def sleep(workspace):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
main(sleep)
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process that holds the workspace."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def alive(pid: int) -> bool:
    """Runs still: a zombie does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def ends(pid: int) -> bool:
    """Is gone within ten seconds."""
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_a_second_run_waits_and_then_names_the_owner(tmp_path, other_run):
    with pytest.raises(WorkspaceBusy, match=f"process {other_run.pid} on "), occupy(Workspace.at(tmp_path), wait_s=0.2):
        pass


def test_a_second_run_gets_in_when_the_first_was_killed(tmp_path, other_run):
    workspace = Workspace.at(tmp_path)
    assert holder(workspace).pid == other_run.pid
    other_run.kill()
    with occupy(workspace, wait_s=10):
        assert holder(workspace).pid == os.getpid()
    assert holder(workspace) is None


def test_to_ask_who_holds_a_workspace_hinders_nobody_who_takes_it(tmp_path):
    workspace, ended = Workspace.at(tmp_path), threading.Event()
    with occupy(workspace, wait_s=0):
        pass

    def ask():
        while not ended.is_set():
            holder(workspace)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(300):
            with occupy(workspace, wait_s=0):
                assert holder(workspace) is not None
    finally:
        ended.set()
        for thread in asking:
            thread.join()
    assert holder(workspace) is None


def test_a_stage_and_its_children_end_with_the_run_however_it_ends(tmp_path, other_run):
    lifeline = Workspace.at(tmp_path).scratch / "lifeline"
    stage = start_stage(tmp_path, timeout_s=60, env={LIFELINE: str(lifeline)})
    child = int(stage.stdout.readline())
    other_run.send_signal(signal.SIGKILL)
    assert ends(stage.pid) and ends(child)
    stage.wait()


def test_a_stage_that_takes_too_long_ends_itself_and_says_where_it_stood(tmp_path):
    with occupy(Workspace.at(tmp_path), wait_s=0):
        stage = start_stage(tmp_path, timeout_s=1, env={LIFELINE: os.environ[LIFELINE]})
        child = int(stage.stdout.readline())
        _, said = stage.communicate(timeout=30)
    assert "longer than its limit of 1 s" in said and "time.sleep" not in said and "in sleep" in said
    assert not alive(child)


def start_stage(directory: Path, *, timeout_s: float, env: dict[str, str]) -> subprocess.Popen[str]:
    script = directory / "stage.py"
    script.write_text(textwrap.dedent(STAGE))
    command = [sys.executable, str(script), str(timeout_s), "-C", str(directory)]
    return subprocess.Popen(command, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
