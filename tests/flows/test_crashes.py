"""Runs that died get their final state, runs that live are left alone, and of late ones one is left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from workspaces import environment

from benchmarks.services import prefect_server

pytestmark = pytest.mark.slow

HERE = socket.gethostname()
PARAMS = "name: reviews\nscenario: text-classification\nsource: {path: rows.csv}\n"
PROGRAM = """
import time
from prefect import flow
from flows import crashes

@flow(name="pipeline", persist_result=False)
def pipeline(directory):
    crashes.announce()
    print("runs", flush=True)
    time.sleep(120)

pipeline("DIRECTORY")
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A Prefect server."""
    server, url = prefect_server(tmp_path_factory.mktemp("prefect"))
    server.start()
    yield url
    server.end()


@pytest.fixture
def client(api, monkeypatch):
    """Its client; everything here asks that server."""
    from prefect import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as found:
        yield found


@pytest.fixture
def quick(monkeypatch):
    """What takes a minute takes a second."""
    from flows import crashes

    for name in ("_STARTS_S", "EXPIRY_S"):
        monkeypatch.setattr(crashes, name, 1.0)


@pytest.fixture
def workspace(tmp_path):
    from noria.workspace import Workspace

    (tmp_path / "params.yaml").write_text(PARAMS)
    return Workspace.at(tmp_path)


def begun(client, state, *, directory=".", labels=None):
    """A run of the flow `pipeline` in that state; its id."""
    from prefect import flow

    @flow(name="pipeline")
    def pipeline(directory: str) -> None: ...

    run = client.create_flow_run(pipeline, parameters={"directory": str(directory)}, state=state)
    if labels:
        client.update_flow_run_labels(run.id, labels)
    return run.id


def state_of(client, run):
    return client.read_flow_run(run).state


def ended_pid():
    """A number that was a process's."""
    done = subprocess.Popen([sys.executable, "-c", "pass"])
    done.wait()
    return done.pid


@contextmanager
def running_flow(api, directory):
    """A flow in a process of its own."""
    program = PROGRAM.replace("DIRECTORY", str(directory))
    env = environment(PREFECT_API_URL=api)
    with subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "runs\n"
            yield process
        finally:
            process.kill()


def test_a_flow_that_is_killed_is_marked_and_one_that_lives_is_not(api, client, tmp_path):
    from flows.crashes import Crashes, _unfinished

    with running_flow(api, tmp_path) as killed, running_flow(api, tmp_path) as living:
        runs = {run.labels["noria.pid"]: run.id for run in _unfinished(client, "pipeline")}
        killed.kill()
        killed.wait()
        Crashes().sweep()
        state = state_of(client, runs[killed.pid])
        assert state.is_crashed() and state.message == f"process {killed.pid} on {HERE} is gone"
        assert state_of(client, runs[living.pid]).is_running()
        Crashes().sweep()
        assert state_of(client, runs[living.pid]).is_running()
    Crashes().sweep()
    assert state_of(client, runs[living.pid]).is_crashed()


def test_its_tasks_end_with_it(client):
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.objects import StateType
    from prefect.states import Running
    from prefect.tasks import task

    from flows.crashes import Crashes

    @task
    def train() -> None: ...

    run = begun(client, Running(), labels={"noria.host": HERE, "noria.pid": ended_pid()})
    made = client.create_task_run(train, flow_run_id=run, dynamic_key="0", state=Running())
    Crashes().sweep()
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
    assert [(found.id, found.state.type) for found in tasks] == [(made.id, StateType.CRASHED)]


def test_what_never_started_is_given_a_minute(client, monkeypatch):
    from prefect.states import Pending

    from flows import crashes

    run = begun(client, Pending())
    crashes.Crashes().sweep()
    assert state_of(client, run).is_pending()
    monkeypatch.setattr(crashes, "_STARTS_S", 0.5)
    time.sleep(1)
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ | {"PREFECT__FLOW_RUN_ID": str(run)}
    ) as slow:
        crashes.Crashes().sweep()
        assert state_of(client, run).is_pending()  # it still imports
        slow.kill()
    crashes.Crashes().sweep()
    assert state_of(client, run).is_crashed()


def test_a_number_that_was_used_again_is_not_taken_for_the_run():
    from flows.crashes import _is_running

    assert _is_running(os.getpid(), datetime.now(UTC))
    assert not _is_running(os.getpid(), datetime.now(UTC) - timedelta(days=1))  # this process is younger than that run


def test_a_run_of_another_machine_lives_as_long_as_its_lease_does(client, workspace, quick):
    from prefect.states import Running

    from flows.crashes import Crashes
    from noria.serving.lease import Holder, Watched
    from noria.serving.objects import open_objects

    labels = {"noria.host": "elsewhere", "noria.pid": 1}
    holds, waits = (begun(client, Running(), directory=workspace.root, labels=labels) for _ in range(2))
    written, seen = Watched(open_objects(workspace.store), "reviews"), Crashes()
    for beat in range(4):
        holder = Holder(str(holds), "elsewhere", 1, str(workspace.root), beat=str(beat))
        assert written.write(holder, written.look()[1]) is not None
        seen.sweep()
        time.sleep(0.6)
    assert [state_of(client, run).is_running() for run in (holds, waits)] == [True, True]
    time.sleep(1)
    seen.sweep()
    assert [state_of(client, run).is_running() for run in (holds, waits)] == [False, True]
    assert written.write(Holder("", "elsewhere", 1, "", is_released=True), written.look()[1]) is not None
    seen.sweep()
    assert state_of(client, waits).is_running()
    time.sleep(1.2)
    seen.sweep()
    assert state_of(client, waits).message == "nobody holds its model"


def test_after_a_pause_one_late_run_is_left(client, tmp_path):
    from prefect import flow
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.schedules import IntervalSchedule

    from flows.crashes import Crashes

    @flow(name="evaluate-and-update")
    def scheduled() -> None: ...

    every = IntervalSchedule(interval=timedelta(seconds=4), anchor_date=datetime.now(UTC))
    deployment = client.create_deployment(
        flow_id=client.create_flow(scheduled),
        name="reviews",
        schedules=[DeploymentScheduleCreate(schedule=every, active=True)],
        entrypoint="nowhere",
    )
    only = DeploymentFilter(id=DeploymentFilterId(any_=[UUID(str(deployment))]))

    def due():
        runs = client.read_flow_runs(deployment_filter=only)
        now = datetime.now(UTC)
        return [
            run for run in runs if run.state.is_scheduled() and run.expected_start_time < now - timedelta(seconds=6)
        ]

    until = time.monotonic() + 120
    while len(due()) < 3 and time.monotonic() < until:
        time.sleep(1)
    late = sorted(due(), key=lambda run: run.expected_start_time)
    assert len(late) >= 3
    Crashes().sweep()
    states = [state_of(client, run.id) for run in late[:-1]]
    assert all(state.is_cancelled() and state.message.startswith("skipped") for state in states)
    assert len(due()) <= 2  # the last one, or one that came due meanwhile
    Crashes().sweep()
    assert client.read_deployment(deployment).schedules
    client.delete_deployment(deployment)
