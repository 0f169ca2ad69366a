"""`noria up` on PostgreSQL: cron starts a whole flow, what dies comes back, and nothing is left of it when it ends."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from up_process import up
from workspaces import good_rows, make_workspace, noria

from benchmarks.services import Postgres

pytestmark = pytest.mark.slow

NODES = [
    "arrivals",
    "monitor",
    "decide",
    "ingest",
    "preprocess",
    "check",
    "augment",
    "split",
    "train",
    "evaluate",
    "optimize",
    "deploy",
    "update",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A workspace that is looked at at every full minute."""
    root = make_workspace(tmp_path_factory.mktemp("up") / "ws", good_rows(300))
    settings = yaml.safe_load((root / "prefect.yaml").read_text())
    (scheduled,) = (one for one in settings["deployments"] if one["schedules"])
    scheduled["schedules"] = [{"cron": "* * * * *", "timezone": "Europe/Berlin"}]
    (root / "prefect.yaml").write_text(yaml.safe_dump(settings))
    return root


@pytest.fixture(scope="module")
def database():
    postgres = Postgres()
    yield postgres.url
    postgres.end()


def runs(api, *states):
    body = json.dumps({"flow_runs": {"state": {"type": {"any_": states}}} if states else {}}).encode()
    request = urllib.request.Request(f"{api}/flow_runs/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def first_run(root):
    """(stage, state) in the order in which the first run came to them."""
    lines = [json.loads(line) for line in (root / ".noria" / "history.jsonl").read_text().splitlines()]
    return [(line["stage"], line["state"]) for line in lines if line["run"] == lines[0]["run"]]


def wait_for(condition, seconds):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.5)
    return found


def test_cron_starts_a_flow_that_goes_live_and_the_stack_leaves_nothing_behind(root, database):
    with up(root, PREFECT_API_DATABASE_CONNECTION_URL=database) as stack:
        ui = stack.said(r"Prefect UI: (http://[\d.:]+)")[1]
        assert stack.said(r"next by schedule: (\S+)")[1].startswith("20")
        done = wait_for(lambda: runs(f"{ui}/api", "COMPLETED"), 400)
        assert done[0]["deployment_id"] and done[0]["created_by"]["type"] == "SCHEDULE"
        assert first_run(root) == [(node, "ran") for node in NODES]
        served = stack.said(r"serve   \| ws [0-9a-f]{12}: (http://[\d.:]+)/predict")[1]
        request = urllib.request.Request(f"{served}/predict", json.dumps({"text": "质量很好"}).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer)["label"] in ("neg", "pos")

        second = noria("up", cwd=root)
        assert second.returncode == 12 and f"{ui}/api" in second.stderr
        assert noria("run", cwd=root).returncode == 0
        assert len([run for run in runs(f"{ui}/api", "COMPLETED") if run["deployment_id"] is None]) == 1

        (worker,) = (one for one in stack.family if one.cmdline()[1:5] == ["-m", "prefect", "worker", "start"])
        worker.kill()
        stack.said(r"worker  \| ended with -9; it is started again")
        before = len(runs(f"{ui}/api", "COMPLETED"))
        wait_for(lambda: len(runs(f"{ui}/api", "COMPLETED")) > before, 300)

        wait_for(lambda: runs(f"{ui}/api", "RUNNING"), 120)  # it ends in the middle of a run
        family = stack.family
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(120) == 0, "\n".join(stack.lines)
        assert not [process for process in family if process.is_running() and process.status() != "zombie"]
    assert not (root / ".noria" / "up.json").exists()
    assert noria("verify", cwd=root).returncode == 0


def test_what_a_stack_left_running_is_seen_to_by_the_next(root, database):
    with up(root, PREFECT_API_DATABASE_CONNECTION_URL=database) as stack:
        ui = stack.said(r"Prefect UI: (http://[\d.:]+)")[1]
        wait_for(lambda: runs(f"{ui}/api", "RUNNING"), 180)
        for process in [*stack.family, psutil.Process(stack.process.pid)]:
            with suppress(psutil.NoSuchProcess):  # a short one may be at its end
                process.kill()  # the machine lost its power
    with up(root, PREFECT_API_DATABASE_CONNECTION_URL=database) as stack:
        ui = stack.said(r"Prefect UI: (http://[\d.:]+)")[1]
        began = time.monotonic()
        wait_for(lambda: runs(f"{ui}/api", "CRASHED"), 90)
        assert time.monotonic() - began < 90
        before = len(runs(f"{ui}/api", "COMPLETED"))
        wait_for(lambda: len(runs(f"{ui}/api", "COMPLETED")) > before, 300)
        stack.process.terminate()
        assert stack.process.wait(120) == 0
