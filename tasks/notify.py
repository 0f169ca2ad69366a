"""News of a flow: one Prefect task that tells people, hooks for runs that failed or were killed, and their words."""

from __future__ import annotations

import json
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
from noria.errors import GateRefused
from noria.notify import notify
from noria.workspace import Workspace
from tasks.update import VERDICT

_CHANGES = {"promote": "goes live", "canary": "is tried on requests"}
_CHANGES_OF_A_TRIAL = {"promote": "went live after its trial", "withdraw": "was withdrawn from its trial"}


@task(name="tell people", task_run_name="tell people", cache_policy=NO_CACHE, persist_result=False)
def tell(workspace: Workspace, kind: NewsKind, *, title: str, text: str) -> int:
    """Tell everybody at NORIA_NOTIFY; returns how many were reached."""
    return notify(kind, title=title, text=f"{text}\n\n{_where_to_look(workspace, this_run.id)}", workspace=workspace)


@task(name="tell of the change", task_run_name="tell of the change", cache_policy=NO_CACHE, persist_result=False)
def tell_change(workspace: Workspace, updated: Artifact) -> int:
    """Tell what clients get from now on, and why."""
    verdict = json.loads((updated.path / VERDICT).read_text(encoding="utf-8"))
    title, text = change_in_words(verdict)
    text = f"{text}\n\nNext: nothing, or `noria rollback --reason …` for the version before."
    return notify(
        "promotion", title=title, text=f"{text}\n{_where_to_look(workspace, this_run.id)}", workspace=workspace
    )


def changed(updated: Artifact) -> bool:
    """The diamond after an update: whether clients get another version now, or some of them."""
    verdict = json.loads((updated.path / VERDICT).read_text(encoding="utf-8"))
    trial = verdict.get("trial") or {}
    return verdict["decision"] in _CHANGES or trial.get("decision") in _CHANGES_OF_A_TRIAL


def change_in_words(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """Title and text of a verdict that changed something."""
    changes = []
    if (trial := verdict.get("trial")) and (change := _CHANGES_OF_A_TRIAL.get(trial["decision"])):
        changes.append((f"{trial['canary']['version']} {change}", "; ".join(trial["reasons"])))
    if change := _CHANGES.get(verdict["decision"]):
        changes.append((f"{verdict['challenger']} {change}", "; ".join(verdict["reasons"])))
    title = "; ".join(what for what, _ in changes)
    over = f"\nThe champion was {verdict['champion']}." if verdict["champion"] else ""
    return title, "\n".join(f"{what}: {why}." for what, why in changes) + over


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


def lasting_url(run_id: str | None) -> str | None:
    """Of a run's page in the Prefect UI; None where the server ends with the run."""
    if run_id is None or "PREFECT_SERVER_UI_API_URL" in os.environ:  # flows/server.py: its own, for this run alone
        return None
    return url_for("flow-run", obj_id=run_id)


def _where_to_look(workspace: Workspace, run_id: str | None) -> str:
    url = lasting_url(run_id)
    return f"Run: {url or run_id}\nWorkspace: {workspace.root}\nMore: `noria status`, `noria report`, docs/alarms.md"
