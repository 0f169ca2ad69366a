"""Runs that Prefect takes for alive: which of them died, and which late ones nobody waits for any more.

Prefect learns from a run how it ended, so one that is killed stays as it was and keeps its place
(PrefectHQ/prefect#16746, #18404); what was not started in time piles up (#15886). A run therefore says in its labels
where it runs. On that machine its process is looked for; from others, the lease of its model tells.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import psutil
from prefect import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.states import Cancelled, Crashed

from noria.errors import NoriaError
from noria.lease import hold
from noria.serving.lease import EXPIRY_S, Watched
from noria.serving.objects import open_objects
from noria.workspace import Workspace
from tasks.notify import tell_crash

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FLOWS = ("pipeline", "evaluate-and-update", "tune")
_HOLDERS = FLOWS[:2]
_HOST, _PID = "noria.host", "noria.pid"
_STARTS_S = 60.0
"""What takes longer than this from the worker's hands to its first words never started."""
_DUE_S = 5.0
_UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]

logger = logging.getLogger(__name__)


@contextmanager
def run_alone(workspace: Workspace, *, wait_s: float) -> Iterator[None]:
    """Hold the workspace and its model in the name of this flow run, once it is clear which runs in it died.

    Raises
    ------
    WorkspaceBusy, StoreError
        As `noria.lease.hold`.
    """
    run = announce()
    Crashes().sweep(but=run)
    with hold(workspace, wait_s=wait_s, run=run) as before:
        if before is not None and before.run:
            _end_by_id(before.run, f"{before} is gone, and has left its lease")
        yield


def announce() -> str:
    """Say in the labels of this flow run which process it is; its id."""
    run = str(flow_run.id)
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(run), {_HOST: socket.gethostname(), _PID: os.getpid()})
    return run


class Crashes:
    """Looks for runs that died; one that is asked again and again also knows those of other machines."""

    def __init__(self) -> None:
        self._leases: dict[str, Watched] = {}

    def sweep(self, *, but: str = "") -> None:
        """Mark as crashed what died, and cancel what is late and followed by another; leave `but` alone.

        A server that does not answer is told of in the log, and asked again by the next sweep.
        """
        try:
            with get_client(sync_client=True) as client:
                for flow in FLOWS:
                    for run in _unfinished(client, flow):
                        if str(run.id) != but and (why := self._why_dead(run, flow)):
                            _end(client, run, why)
                for run in _superseded(client):
                    logger.warning("%s was due at %s and is skipped", run.name, run.next_scheduled_start_time)
                    client.set_flow_run_state(run.id, Cancelled(message="skipped: the next one is due already"))
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("the Prefect server does not answer as it should: %s", error)

    def _why_dead(self, run: FlowRun, flow: str) -> str | None:
        """Why a run can't be alive, or None."""
        assert run.state is not None
        age_s = (datetime.now(UTC) - run.state.timestamp).total_seconds()
        host, pid = run.labels.get(_HOST), run.labels.get(_PID)
        if run.state.is_paused() and host != socket.gethostname():  # it waits for a person, and holds nothing meanwhile
            return None
        if host is None or run.state.is_pending():  # it did not come so far as to say where it is, this time
            is_late = age_s > _STARTS_S and not _has_process(run)
            return f"nothing was heard of it for {age_s:.0f} s" if is_late else None
        if host == socket.gethostname():
            begins = age_s < _STARTS_S and _has_process(run)  # the labels may be those of an earlier attempt
            return None if begins or _is_running(pid, run.state.timestamp) else f"process {pid} on {host} is gone"
        return self._why_lost(run, flow) if age_s > EXPIRY_S else None

    def _why_lost(self, run: FlowRun, flow: str) -> str | None:
        """What the lease says of a run on another machine."""
        directory = str(run.parameters.get("directory", ""))
        try:
            if directory not in self._leases:
                workspace = Workspace.at(directory)
                self._leases[directory] = Watched(open_objects(workspace.store), workspace.config.name)
            lease = self._leases[directory]
            holder, _ = lease.look()
        except NoriaError as error:
            logger.warning("nothing is known of %s, on another machine: %s", run.name, error.what)
            return None
        if lease.unchanged_s < EXPIRY_S:
            return None
        if holder is not None and holder.run == str(run.id):
            return f"{holder} has not been heard of for {EXPIRY_S:g} s"
        return "nobody holds its model" if holder is None and flow in _HOLDERS else None


def _unfinished(client: SyncPrefectClient, flow: str) -> list[FlowRun]:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED))
    return client.read_flow_runs(flow_filter=_named(flow), flow_run_filter=FlowRunFilter(state=state))


def _superseded(client: SyncPrefectClient) -> Iterator[FlowRun]:
    """Of each deployment, the late runs of its schedule that a later one follows: after a pause, one catches up."""
    before = datetime.now(UTC) - timedelta(seconds=_DUE_S)
    due = FlowRunFilterNextScheduledStartTime.model_validate({"before_": before})
    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    late = client.read_flow_runs(
        flow_filter=_named(*FLOWS), flow_run_filter=FlowRunFilter(state=scheduled, next_scheduled_start_time=due)
    )
    ours = [run for run in late if run.auto_scheduled]
    ours.sort(key=lambda run: (str(run.deployment_id), run.next_scheduled_start_time or run.created))
    for _, runs in groupby(ours, key=lambda run: run.deployment_id):
        yield from list(runs)[:-1]


def _named(*flows: str) -> FlowFilter:
    return FlowFilter(name=FlowFilterName(any_=list(flows)))


def _end(client: SyncPrefectClient, run: FlowRun, why: str) -> None:
    """Give the run its final state, and the tasks that were at work; its place is free at once."""
    assert run.state is not None
    logger.warning("%s is marked as crashed: %s", run.name, why)
    running = TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])), task_run_filter=TaskRunFilter(state=running)
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message=why), force=True)
    final = Cancelled if run.state.is_cancelling() else Crashed
    client.set_flow_run_state(run.id, final(message=why), force=True)
    tell_crash(run, why)


def _end_by_id(run: str, why: str) -> None:
    """The same, of a run that this server may not know, or knows the end of."""
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run)]))
        for found in client.read_flow_runs(flow_run_filter=wanted):
            if found.state is not None and found.state.type in _UNFINISHED:
                _end(client, found, why)


def _is_running(pid: object, since: datetime) -> bool:
    """Whether that process lives, and did when the run came into its state: numbers are used again."""
    try:
        return isinstance(pid, int) and psutil.Process(pid).create_time() < since.timestamp() + _DUE_S
    except psutil.NoSuchProcess:
        return False


def _has_process(run: FlowRun) -> bool:
    """Whether a process of this machine was started for it and did not come to its first words yet."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id):
                return True
        except psutil.Error:
            continue  # it ended, or is another user's
    return False
