"""The artifact of a decision: what it rests on is read from artifacts and the store, and what came of it written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from noria.artifacts import MANIFEST, Artifact, read_artifact, write_artifact
from noria.monitoring.decide import Arrived, Decision, Situation, staged_and_not_judged, tries_since_promotion
from noria.monitoring.report import read_monitoring
from noria.serving.store import ModelStore

VALUES, PAGE = "decision.json", "decision.md"
_DAY_S = 86_400.0
_HEADLINES = {
    "none": "Nothing to do",
    "retrain": "Train a new model",
    "call": "Stop: somebody has to look",
}


def situation_of(arrivals: Artifact, monitoring: Artifact, store: ModelStore, *, raw: Path) -> Situation:
    """What a decision rests on; `raw` is where the source is read to.

    Raises
    ------
    StoreError
        When the pointer or the journal can't be read.
    """
    live, events = store.production(), store.journal.events()
    since = datetime.fromisoformat(live.since) if live else None
    return Situation(
        monitoring=read_monitoring(monitoring.path),
        arrived=Arrived(*(_number(arrivals.facts, f"objects_{name}") for name in ("new", "refused", "listed"))),
        age_days=(datetime.now(UTC) - since).total_seconds() / _DAY_S if since else None,
        tries=tries_since_promotion(events),
        unjudged=staged_and_not_judged(events),
        unfinished=(raw / MANIFEST).exists() and not any(event.kind == "staged" for event in events),
    )


def write_decision(path: Path, decision: Decision, situation: Situation, *, parents: tuple[Artifact, ...]) -> Artifact:
    """Write the artifact "decision"; its fact `action` is what the flow goes by."""
    version = situation.monitoring.version
    with write_artifact(path, kind="decision", parents=parents) as draft:
        values = asdict(decision) | {"time": datetime.now(UTC).isoformat(timespec="seconds"), "version": version}
        text = json.dumps(values, indent=2, ensure_ascii=False)
        (draft.path / VALUES).write_text(text + "\n", encoding="utf-8")
        (draft.path / PAGE).write_text(decision_markdown(decision), encoding="utf-8")
        draft.facts = {"action": decision.action, "reasons": list(decision.reasons), "version": version}
    return read_artifact(path, verify=False)


def decision_markdown(decision: Decision) -> str:
    """The decision for the run's page."""
    lines = [f"**{_HEADLINES[decision.action]}**", "", *(f"- {reason}" for reason in decision.reasons), ""]
    lines += ["| rule | value | from | fired |", "|---|---:|---:|---|"]
    lines += [
        f"| {rule.name} | {rule.value:,.3g} | {'off' if rule.threshold is None else f'{rule.threshold:,.3g}'} | "
        f"{'**yes**' if rule.fired else 'no'} |"
        for rule in decision.triggers
    ]
    return "\n".join(lines) + "\n"


def _number(values: Mapping[str, object], name: str) -> int:
    found = values.get(name, 0)
    return found if isinstance(found, int) else 0
