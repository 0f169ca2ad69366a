"""Where a workspace stands: its runs, stages and rows, its champion and what is tried beside it, and what is around."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from flows.plan import make_plan
from flows.surroundings import Schedule, Seen, Server, age_s, ask_prefect, ask_server, read_seen
from noria.artifacts import Ledger
from noria.lease import Owner, holder
from noria.report.data import read_ledgers
from noria.serving.store import store_of
from noria.serving.trial_verdict import Side, side
from noria.workspace import Workspace
from tasks.history import Attempt, read_history
from tasks.runs import Run, read_runs


@dataclass(frozen=True)
class StageStatus:
    """One stage, and the last time that a run came to it; `stale`: its inputs, code or parameters changed since."""

    stage: str
    stale: bool
    last: Attempt | None


@dataclass(frozen=True)
class Champion:
    """What is live."""

    version: str
    since: str
    age_s: float
    reason: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Tried:
    """What is tried beside the champion, and what servers counted of both so far; times in seconds and milliseconds."""

    version: str
    mode: str
    share: float
    since: str
    age_s: float
    reason: str
    answers_needed: int
    num_servers: int
    canary: Side
    champion: Side


@dataclass(frozen=True)
class Status:
    """All of it. `ledger` is by stage, in the order of the flowchart."""

    workspace: str
    scenario: str
    running: Owner | None
    last_run: str | None
    stages: tuple[StageStatus, ...]
    ledger: Mapping[str, Ledger]
    champion: Champion | None
    tried: Tried | None
    run: Run | None
    server: Server
    schedule: Schedule
    seen: Seen


def read_status(workspace: Workspace) -> Status:
    """Look at everything; change nothing."""
    with ThreadPoolExecutor() as pool:  # who has to be asked answers while files are read
        server, schedule = pool.submit(ask_server, workspace), pool.submit(ask_prefect, workspace)
        return _status(workspace, server, schedule)


def _status(workspace: Workspace, server: Future[Server], schedule: Future[Schedule]) -> Status:
    plan = make_plan(workspace)
    last: dict[str, Attempt] = {}
    run = None
    for attempt in read_history(workspace):
        run = attempt.run
        last[attempt.stage] = attempt
    stale = {stage.name for stage in plan.stages}
    effects = [stage for stage in last if stage not in plan.order]  # deploy and update
    return Status(
        workspace=str(workspace.root),
        scenario=workspace.scenario.name,
        running=holder(workspace),
        last_run=run,
        stages=tuple(StageStatus(stage, stage in stale, last.get(stage)) for stage in [*plan.order, *effects]),
        ledger=dict(read_ledgers(workspace)),
        champion=_champion(workspace),
        tried=_tried(workspace),
        run=next(reversed(read_runs(workspace)), None),
        server=server.result(),
        schedule=schedule.result(),
        seen=read_seen(workspace),
    )


def _champion(workspace: Workspace) -> Champion | None:
    store = store_of(workspace)
    live = store.production()
    if live is None:
        return None
    metrics = cast("Mapping[str, float]", store.fetch(live.version, signed=False).facts["metrics"])
    return Champion(live.version, live.since, age_s(live.since), live.reason, metrics)


def _tried(workspace: Workspace) -> Tried | None:
    store = store_of(workspace)
    live = store.production()
    if live is None or live.canary is None:
        return None
    canary, observed = live.canary, store.observed(live.canary)
    return Tried(
        canary.version,
        canary.mode,
        canary.share,
        canary.since,
        age_s(canary.since),
        canary.reason,
        answers_needed=workspace.config.deploy.canary_requests,
        num_servers=observed.num_servers,
        canary=side(canary.version, observed.challenger),
        champion=side(live.version, observed.champion),
    )
