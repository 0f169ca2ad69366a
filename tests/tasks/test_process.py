"""A stage that is told to end has the time to save, and keeps nobody waiting who does not need it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from noria.errors import Preempted
from noria.lease import occupy
from noria.lifeline import LIFELINE
from noria.workspace import Workspace

STAGE = """
import signal, sys, time
from noria.errors import Preempted
from tasks.node import main, node
needs_s, timeout_s = float(sys.argv.pop(1)), float(sys.argv.pop(1))
@node("sleep", summary=str, timeout_s=timeout_s)
def sleep(workspace):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    print("ready", flush=True)
    while not told:
        time.sleep(0.05)
    time.sleep(needs_s)
    (workspace.root / "saved").touch()
    raise Preempted("told to end; the state is saved")
main(sleep)
"""


def start(directory: Path, *, needs_s: float, timeout_s: float = 60) -> subprocess.Popen[str]:
    script = directory / "stage.py"
    script.write_text(STAGE)
    command = [sys.executable, str(script), str(needs_s), str(timeout_s), "-C", str(directory)]
    stage = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert stage.stdout is not None and stage.stdout.readline() == "ready\n"
    return stage


def errors(directory: Path) -> list[tuple[str, int]]:
    lines = (directory / ".noria" / "events" / "sleep.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [(event["message"], event["exit_code"]) for event in events if event["kind"] == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("needs_s", [0, 7])
def test_a_stage_whose_runner_is_gone_saves_and_ends_as_soon_as_it_has(tmp_path: Path, needs_s: float) -> None:
    with occupy(Workspace.at(tmp_path), wait_s=0):
        assert LIFELINE in os.environ
        stage = start(tmp_path, needs_s=needs_s)
    begun = time.monotonic()
    assert stage.wait(30) == Preempted.exit_code
    assert needs_s <= time.monotonic() - begun < needs_s + 5
    assert (tmp_path / "saved").exists()


def test_a_stage_that_is_told_to_end_says_so_with_the_code_that_is_tried_again(tmp_path: Path) -> None:
    with occupy(Workspace.at(tmp_path), wait_s=0):
        stage = start(tmp_path, needs_s=0)
        stage.send_signal(signal.SIGTERM)
        assert stage.wait(30) == Preempted.exit_code == os.EX_TEMPFAIL
    assert errors(tmp_path) == [("told to end; the state is saved", os.EX_TEMPFAIL)]


def test_a_stage_that_took_too_long_saves_too_and_says_that_it_took_too_long(tmp_path: Path) -> None:
    with occupy(Workspace.at(tmp_path), wait_s=0):
        stage = start(tmp_path, needs_s=0.2, timeout_s=1)
        assert stage.wait(30) == 124
    assert (tmp_path / "saved").exists()
    assert errors(tmp_path) == [("`sleep` ran longer than its limit of 1 s", 124)]
