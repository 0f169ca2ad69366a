"""What is around a workspace: its model server, its schedule and queue in Prefect, and what its last update saw.

Whoever is asked over the network has a second: a status that waits is no status.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from flows.server import credentials, running_stack
from noria.report.operations import arrivals_facts, read_decision, read_monitoring
from noria.serving.address import loopback, url_of
from noria.workspace import Workspace

_ANSWER_S = 1.0
_MOST_RUNS = 200


@dataclass(frozen=True)
class Server:
    """The model server where `serve` in params.yaml has it; `is_ready` is None where that can't be known."""

    url: str
    is_ready: bool | None
    said: str


@dataclass(frozen=True)
class Schedule:
    """What Prefect has planned for this workspace; `said` is why nothing is known, where that is so.

    Attributes
    ----------
    next_run, next_flow:
        When (UTC, ISO 8601) and what runs next on schedule.
    late, pending:
        Runs that wait for a worker: past their time, and handed out but not begun.
    """

    next_run: str | None = None
    next_flow: str | None = None
    late: int = 0
    pending: int = 0
    said: str = ""


@dataclass(frozen=True)
class Seen:
    """What the last update saw and decided; None each where there was none."""

    decision: str | None
    reasons: Sequence[str]
    decided: str | None
    drifted: Sequence[str]
    metric: Mapping[str, Any] | None
    feedback: Mapping[str, Any] | None
    objects_refused: int


def ask_server(workspace: Workspace) -> Server:
    """Whether the model server takes requests."""
    serve = workspace.config.serve
    url = url_of(loopback(serve.host), serve.port)
    if not serve.port:
        return Server(url, None, "`serve.port` is 0: it takes any free one")
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=_ANSWER_S):
            return Server(url, True, "ready")
    except urllib.error.HTTPError as error:
        return Server(url, False, f"answers with {error.code}")
    except (OSError, ValueError) as error:
        return Server(url, False, f"does not answer: {getattr(error, 'reason', error)}")


def ask_prefect(workspace: Workspace) -> Schedule:
    """What is planned for this workspace, and what waits, by the given server or that of `noria up`."""
    stack = running_stack(workspace)
    api = os.environ.get("PREFECT_API_URL") or (stack.api if stack else None)
    if not api:
        return Schedule(said="PREFECT_API_URL is not set, and `noria up` does not run: nothing is scheduled here")
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
        "limit": _MOST_RUNS,
    }
    try:
        runs = [run for run in _post(f"{api.rstrip('/')}/flow_runs/filter", wanted) if _is_of(run, workspace)]
        planned = [run for run in runs if run["state_name"] == "Scheduled"]
        flow = _flow_name(api, planned[0]["flow_id"]) if planned else None
    except (OSError, ValueError, KeyError) as error:
        return Schedule(said=f"Prefect does not answer at {api}: {getattr(error, 'reason', error)}")
    return Schedule(
        next_run=planned[0]["expected_start_time"] if planned else None,
        next_flow=flow,
        late=sum(run["state_name"] == "Late" for run in runs),
        pending=sum(run["state_type"] == "PENDING" for run in runs),
        said="" if planned else "no run is scheduled",
    )


def read_seen(workspace: Workspace) -> Seen:
    """What the last update left in the workspace."""
    decision, monitoring = read_decision(workspace) or {}, read_monitoring(workspace) or {}
    feedback = (arrivals_facts(workspace) or {}).get("feedback")
    return Seen(
        decision=decision.get("action"),
        reasons=tuple(decision.get("reasons", ())),
        decided=decision.get("time"),
        drifted=tuple(str(one["name"]) for one in monitoring.get("features", ()) if one["drifted"]),
        metric=monitoring.get("metric"),
        feedback=feedback if isinstance(feedback, Mapping) else None,
        objects_refused=_num_refused(workspace.intake / "refused.yaml"),
    )


def age_s(since: str) -> float:
    """Seconds since a time in ISO 8601."""
    return round((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds(), 1)


def _num_refused(path: Path) -> int:
    """Source objects that the gate refused as a whole."""
    return len(yaml.safe_load(path.read_text(encoding="utf-8")) or ()) if path.exists() else 0


def _is_of(run: Mapping[str, Any], workspace: Workspace) -> bool:
    """Whether it would run here: a relative directory is of the deployment, which has one workspace."""
    directory = str(run.get("parameters", {}).get("directory", "."))
    return not Path(directory).is_absolute() or Path(directory).resolve() == workspace.root


def _flow_name(api: str, flow_id: str) -> str:
    flows = _post(f"{api.rstrip('/')}/flows/filter", {"flows": {"id": {"any_": [flow_id]}}})
    return str(flows[0]["name"])


def _post(url: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401 - Prefect's answer
    headers = {"Content-Type": "application/json", **credentials()}
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
        return json.load(answer)
