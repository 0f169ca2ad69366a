"""`noria status` asks a real Prefect server and a real model server, and waits for neither."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from workspaces import change_params, environment, noria, noria_command

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def serving(command, *, ready, **options):
    """A process that answers at `ready` within two minutes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(ready, timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def post(url, **body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def status(root, **env):
    done = noria("status", "--json", cwd=root, **env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def root(dirty):
    """A copy of the workspace, as far from the code, that names a free port and what an update left."""
    copy = dirty.parent / "status"
    shutil.copytree(dirty, copy, symlinks=True)
    change_params(copy, {"serve": {"port": free_port()}})
    yield copy
    shutil.rmtree(copy)


def test_it_tells_of_the_servers_the_schedule_the_queue_and_the_last_update(root, tmp_path):
    (root / "sources" / "intake").mkdir(parents=True, exist_ok=True)
    (root / "sources" / "intake" / "refused.yaml").write_text(
        "- {name: a.csv, reason: bad}\n- {name: b.csv, reason: bad}\n"
    )
    (root / ".noria" / "decision").mkdir()
    decision = {"action": "retrain", "reasons": ["it got worse"], "triggers": [], "time": "2026-11-27T03:00:00+00:00"}
    (root / ".noria" / "decision" / "decision.json").write_text(json.dumps(decision))
    port, model_port = free_port(), yaml.safe_load((root / "params.yaml").read_text())["serve"]["port"]
    api, soon = f"http://127.0.0.1:{port}/api", datetime.now(UTC) + timedelta(hours=2)
    prefect = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-services"]
    model = noria_command("serve")
    ready = f"http://127.0.0.1:{model_port}/readyz"
    with (
        serving(prefect, ready=f"{api}/health", env=environment(PREFECT_HOME=str(tmp_path / "prefect"))),
        serving(model, ready=ready, env=environment(), cwd=root),
    ):
        flow = post(f"{api}/flows/", name="evaluate-and-update")["id"]
        deployment = post(f"{api}/deployments/", name="hourly", flow_id=flow)["id"]
        for directory, name, when in (
            (root, "Scheduled", soon),
            (root, "Late", soon),
            ("/elsewhere", "Scheduled", soon),
        ):
            state = {"type": "SCHEDULED", "name": name, "state_details": {"scheduled_time": when.isoformat()}}
            url = f"{api}/deployments/{deployment}/create_flow_run"
            post(url, state=state, parameters={"directory": str(directory)})
        found = status(root, PREFECT_API_URL=api)
    assert found["server"]["is_ready"] is True
    schedule = found["schedule"]
    assert datetime.fromisoformat(schedule["next_run"]) == soon
    assert (schedule["next_flow"], schedule["late"], schedule["pending"]) == ("evaluate-and-update", 1, 0)
    assert (found["run"]["flow"], found["run"]["state"]) == ("pipeline", "completed")
    assert (found["seen"]["decision"], found["seen"]["objects_refused"]) == ("retrain", 2)


def test_what_does_not_answer_is_said_and_not_waited_for(root):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never says a word
        port = silent.getsockname()[1]
        change_params(root, {"serve": {"port": port}})
        asked = time.monotonic()
        found = status(root, PREFECT_API_URL=f"http://127.0.0.1:{port}/api")
        with_silence_s = time.monotonic() - asked
    asked = time.monotonic()
    alone = status(root)
    assert with_silence_s - (time.monotonic() - asked) < 3
    assert found["server"]["is_ready"] is False and "timed out" in found["server"]["said"]
    assert "does not answer" in found["schedule"]["said"]
    assert "PREFECT_API_URL is not set" in alone["schedule"]["said"]
