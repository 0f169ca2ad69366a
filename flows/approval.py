"""A better model waits for a person's word, in the Prefect UI or by its API."""

from __future__ import annotations

from uuid import UUID

from prefect import get_client, pause_flow_run
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Running

from noria.artifacts import Artifact
from noria.serving.consent import Consent, write_consent
from noria.workspace import Workspace
from tasks.record import waiting

_POLL_S = 2


class Approval(RunInput):
    """Whether the challenger may go live, and why. Nothing is given: an empty answer is none."""

    approve: bool
    reason: str


def ask_person(workspace: Workspace, proposal: Artifact) -> Consent:
    """Pause this flow run until somebody answers or `update.approval_hours` are over; what was said is kept.

    Nothing holds the workspace meanwhile.
    """
    version, hours = str(proposal.facts["version"]), workspace.config.update.approval_hours
    question = Approval.with_initial_data(description=_question(proposal, version))
    try:
        with waiting(workspace):
            said = pause_flow_run(wait_for_input=question, timeout=max(1, round(hours * 3600)), poll_interval=_POLL_S)
        consent = Consent(version, said.approve, said.reason)
    except FlowPauseTimeout:
        _go_on()
        consent = Consent(version, approved=False, reason=f"nobody answered within {hours:g} hours", answered=False)
    write_consent(workspace.consent, consent)
    return consent


def is_asked(workspace: Workspace) -> bool:
    """Whether an update of this workspace waits for a person already: the next ones do not ask beside it."""
    paused = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    ours = FlowFilter(name=FlowFilterName(any_=[str(flow_run.flow_name)]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=ours, flow_run_filter=FlowRunFilter(state=paused))
    return any(run.parameters.get("directory") == str(workspace.root) for run in runs)


def _go_on() -> None:
    """Back to Running: the server takes any other end of a pause that nobody answered for a failure."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(str(flow_run.id)), Running(), force=True)


def _question(proposal: Artifact, version: str) -> str:
    reasons = proposal.facts["reasons"]
    assert isinstance(reasons, list)
    lines = "\n".join(f"- {reason}" for reason in reasons)
    return f"**May `{version}` go live?**\n\n{lines}\n\nThe artifact `propose` of this run has the figures.\n"
