"""News of a flow: one Prefect task that tells people, hooks for runs that failed or were killed, and their words."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from prefect import Flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run as this_run
from prefect.utilities.urls import url_for

from noria.artifacts import Artifact
from noria.config import NewsKind
from noria.errors import GateRefused, NoriaError
from noria.notify import notify
from noria.workspace import Workspace
from tasks.update import VERDICT

logger = logging.getLogger(__name__)

_CHANGES = {"promote": "goes live", "canary": "is tried on requests"}
_CHANGES_OF_A_TRIAL = {"promote": "went live after its trial", "withdraw": "was withdrawn from its trial"}


@task(name="tell of the change", task_run_name="tell of the change", cache_policy=NO_CACHE, persist_result=False)
def tell_change(workspace: Workspace, updated: Artifact) -> int:
    """Tell what clients get from now on, and why."""
    verdict = json.loads((updated.path / VERDICT).read_text(encoding="utf-8"))
    title, text = change_in_words(verdict)
    return _tell(workspace, "promotion", title, text, next_step="nothing, or `noria rollback --reason …`")


@task(name="call a person", task_run_name="call a person", cache_policy=NO_CACHE, persist_result=False)
def tell_call(workspace: Workspace, decided: Artifact) -> int:
    """Tell why nothing is trained before somebody has looked."""
    next_step = "look at the data and at what people say of it; `noria run` trains on it as it is"
    return _tell(workspace, "call", "somebody has to look", _reasons(decided), next_step=next_step)


@task(name="tell of a refusal", task_run_name="tell of a refusal", cache_policy=NO_CACHE, persist_result=False)
def tell_refusal(workspace: Workspace, arrived: Artifact) -> int:
    """Tell which objects of the source the gate refused as a whole."""
    names = arrived.facts["refused"]
    assert isinstance(names, list)
    title = f"the gate refused {arrived.facts['objects_refused']} new objects"
    next_step = "mend them, or delete their line in sources/intake/refused.yaml to have them tried again"
    return _tell(workspace, "refusal", title, "\n".join(map(str, names)), next_step=next_step)


@task(name="ask a person", task_run_name="ask a person", cache_policy=NO_CACHE, persist_result=False)
def tell_approval(workspace: Workspace, proposed: Artifact) -> int:
    """Tell that a better model waits for a word."""
    title = f"may {proposed.facts['version']} go live?"
    next_step = "resume the run in the Prefect UI, with `approve` and a reason"
    return _tell(workspace, "approval", title, _reasons(proposed), next_step=next_step)


def changed(updated: Artifact) -> bool:
    """The diamond after an update: whether clients get another version now, or some of them."""
    return bool(_changes(json.loads((updated.path / VERDICT).read_text(encoding="utf-8"))))


def change_in_words(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """Title and text of a verdict that changed something."""
    changes = _changes(verdict)
    title = "; ".join(what for what, _ in changes)
    over = f"\nThe champion was {verdict['champion']}." if verdict["champion"] else ""
    return title, "\n".join(f"{what}: {why}." for what, why in changes) + over


def _changes(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What changed of the canary, then by the contest, each with its reasons; a trial that goes on is no change."""
    changes, tried = [], None
    if trial := verdict.get("trial"):
        tried = trial["canary"]["version"]
        if change := _CHANGES_OF_A_TRIAL.get(trial["decision"]):
            changes.append((f"{tried} {change}", "; ".join(trial["reasons"])))
    if verdict["challenger"] != tried and (change := _CHANGES.get(verdict["decision"])):
        changes.append((f"{verdict['challenger']} {change}", "; ".join(verdict["reasons"])))
    return changes


def tell_failure(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """The hook of a flow on failure and on a crash: what went wrong, as the run itself says it."""
    workspace = Workspace.at(str(flow_run.parameters.get("directory", ".")))
    said = (state.message or "").removeprefix("Flow run encountered an exception: ")
    refused = said.startswith(GateRefused.__name__)  # the exception itself stays with the process that raised it
    kind: NewsKind = "refusal" if refused else "failure"
    title = f"{flow.name}: {'the gate refused the data' if refused else f'the run {state.name or state.type}'.lower()}"
    next_step = (
        "look at what was refused (`noria quarantine list`), mend the source or the suite, then `noria run`"
        if refused
        else "put right what it says, then `noria run`: it goes on from the stage that failed"
    )
    text = f"{said or state.name}\n\nThe champion stays live.\nNext: {next_step}."
    notify(kind, title=title, text=f"{text}\n{_where_to_look(workspace, str(flow_run.id))}", workspace=workspace)


def tell_crash(flow_run: FlowRun, why: str) -> None:
    """What no hook tells, since the process that would have run it is gone."""
    workspace = Workspace.at(str(flow_run.parameters.get("directory", ".")))
    try:
        title, text = f"{flow_run.name} was killed", f"{why}\n\nThe champion stays live."
        next_step = "nothing: the next run goes on where this one stopped; `noria run` is one"
        where = _where_to_look(workspace, str(flow_run.id))
        notify("failure", title=title, text=f"{text}\nNext: {next_step}.\n{where}", workspace=workspace)
    except NoriaError as error:  # a workspace that is no more
        logger.warning("nobody is told of %s: %s", flow_run.name, error.what)


def _tell(workspace: Workspace, kind: NewsKind, title: str, text: str, *, next_step: str) -> int:
    """Tell everybody at NORIA_NOTIFY; returns how many were reached."""
    where = _where_to_look(workspace, this_run.id)
    return notify(kind, title=title, text=f"{text}\n\nNext: {next_step}.\n{where}", workspace=workspace)


def _reasons(artifact: Artifact) -> str:
    reasons = artifact.facts["reasons"]
    assert isinstance(reasons, list)
    return "\n".join(map(str, reasons))


def lasting_url(run_id: str | None) -> str | None:
    """Of a run's page in the Prefect UI; None where the server ends with the run."""
    if run_id is None or "PREFECT_SERVER_UI_API_URL" in os.environ:  # flows/server.py: its own, for this run alone
        return None
    return url_for("flow-run", obj_id=run_id)


def _where_to_look(workspace: Workspace, run_id: str | None) -> str:
    url = lasting_url(run_id)
    return f"Run: {url or run_id}\nWorkspace: {workspace.root}\nMore: `noria status`, `noria report`, docs/alarms.md"
