"""Evaluate and update, as it runs: real Prefect servers, real models, and a person who answers by the API."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from workspaces import (
    change_params,
    dirty_rows,
    environment,
    good_rows,
    last_run,
    new_rows,
    noria,
    noria_command,
    write_rows,
)

from benchmarks.services import prefect_server
from noria.serving.store import store_of
from noria.workspace import Workspace

pytestmark = pytest.mark.slow

LOOK = ["arrivals", "monitor", "decide"]
WAIT_S = 600.0


@pytest.fixture(scope="module")
def live(dirty, tmp_path_factory) -> Path:
    """A workspace with a model in production, to bring new rows to."""
    root = tmp_path_factory.mktemp("update") / "ws"
    shutil.copytree(dirty, root, symlinks=True)
    return root


@pytest.fixture(scope="module")
def prefect(tmp_path_factory) -> Iterator[str]:
    """The API of a server that people answer at."""
    server, api = prefect_server(tmp_path_factory.mktemp("prefect"))
    try:
        server.start()
        yield api
    finally:
        server.end()


def ask(url: str, body: object) -> object:
    """What the API answers to a POST."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def append_rows(root: Path, rows) -> None:
    with (root / "rows.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def production(root: Path) -> str:
    return store_of(Workspace.at(root)).production().version


def decision(root: Path) -> dict:
    return json.loads((root / ".noria" / "decision" / "decision.json").read_text())


def test_when_nothing_came_nothing_is_done(live):
    before = production(live)
    done = noria("update", cwd=live)
    assert done.returncode == 0, done.stderr
    assert "Nothing to do: nothing came" in done.stdout
    assert last_run(live) == [(stage, "ran") for stage in LOOK]
    assert production(live) == before


def test_rows_whose_labels_are_wrong_call_a_person_and_train_nothing(live):
    before = production(live)
    wrong = [(text, {"neg": "pos", "pos": "neg"}[label]) for text, label in good_rows(150, seed=11)]
    append_rows(live, wrong)
    done = noria("update", cwd=live)
    assert done.returncode == 15, done.stdout + done.stderr
    assert "Called a person: the champion lost at least" in done.stdout
    assert last_run(live) == [(stage, "ran") for stage in LOOK]
    assert (decision(live)["action"], production(live)) == ("call", before)
    write_rows(live / "rows.csv", dirty_rows(600))


@pytest.fixture(scope="module")
def drifted(live) -> Path:
    """The same workspace, where rows came that the champion can't tell apart, and a person has to approve."""
    write_rows(live / "rows.csv", [*dirty_rows(600), *new_rows(400)])
    update = {"approval": "required", "stop": {"metric_drop": None}}
    change_params(live, {"update": update})
    shutil.copytree(live / "store", live / "store.before", symlinks=True)
    return live


def as_before(root: Path) -> str:
    """The store as it was before any challenger; what is live there."""
    shutil.rmtree(root / "store")
    shutil.copytree(root / "store.before", root / "store", symlinks=True)
    return production(root)


def test_without_an_answer_in_time_the_champion_stays(drifted, prefect):
    before = as_before(drifted)
    change_params(drifted, {"update": {"approval_hours": 0.001}})
    done = noria("update", cwd=drifted, PREFECT_API_URL=prefect)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Trained: inconclusive" in done.stdout
    assert decision(drifted)["action"] == "retrain"
    assert last_run(drifted)[-1] == ("update", "ran")
    event = store_of(Workspace.at(drifted)).journal.events()[-1]
    assert (production(drifted), event.kind) == (before, "inconclusive")
    assert "nobody answered within 0.001 hours" in event.reason


@pytest.mark.parametrize(("approve", "decided"), [(False, "keep"), (True, "promote")])
def test_what_a_person_answers_decides(drifted, prefect, approve, decided):
    before = as_before(drifted)
    change_params(drifted, {"update": {"approval_hours": 1.0}})
    command = [*noria_command("update"), "-C", str(drifted)]
    process = subprocess.Popen(
        command, env=environment(PREFECT_API_URL=prefect), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        run = paused(prefect, process)
        empty = ask(f"{prefect}/flow_runs/{run}/resume", {"run_input": {}})
        assert empty["status"] == "REJECT"
        answer = {"approve": approve, "reason": "I looked at the figures"}
        assert ask(f"{prefect}/flow_runs/{run}/resume", {"run_input": answer})["status"] == "ACCEPT"
        told, _ = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert f"Trained: {decided}" in told
    event = store_of(Workspace.at(drifted)).journal.events()[-1]
    assert "approved: I looked at the figures" in event.reason
    assert (production(drifted) != before) is approve
    if approve:
        assert event.kind == "promoted" and event.details["gain"]["low"] > 0


def paused(prefect: str, process: subprocess.Popen[str]) -> str:
    """The id of the run that waits for a person."""
    until = time.monotonic() + WAIT_S
    states = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
    while not (runs := ask(f"{prefect}/flow_runs/filter", states)):
        assert process.poll() is None and time.monotonic() < until, process.stdout.read()
        time.sleep(0.5)
    (run,) = runs
    return run["id"]
