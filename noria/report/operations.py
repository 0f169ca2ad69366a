"""Sections on an update: what arrived, what people said, what has drifted, and what was decided of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.report.parts import Section, Table, pictures, spans, table
from noria.workspace import Workspace

_WORDS = {"none": "nothing to do", "retrain": "train again", "call": "somebody should look"}


def decision_section(workspace: Workspace) -> Section | None:
    """What the update decided to do, and each trigger with its threshold."""
    decision = read_decision(workspace)
    if decision is None:
        return None
    rows = [
        (one["name"], _number(one["value"]), _number(one["threshold"]), "fired" if one["fired"] else "–", one["text"])
        for one in decision["triggers"]
    ]
    lead = f"{_WORDS.get(decision['action'], decision['action'])}: {'; '.join(decision['reasons'])}."
    return Section("Decision", lead, (table("trigger | value# | threshold# | | in words", rows),), stage="decide")


def drift_section(workspace: Workspace) -> Section | None:
    """The champion's metric on fresh rows, and how far each feature is from what it was trained on."""
    found = read_monitoring(workspace)
    if found is None:
        return None
    features = found["features"]
    drifted = [one["name"] for one in features if one["drifted"]]
    told = f"drifted: {', '.join(drifted)}" if drifted else f"none of {len(features)} features drifted"
    rows = [
        (
            one["name"],
            one["kind"],
            one["statistic"],
            _number(one["value"]),
            _number(one["threshold"]),
            _number(one["p_value"]),
            f"{one['rows']:,}",
            "drifted" if one["drifted"] else "–",
        )
        for one in features
    ]
    parts: list[Table] = [*_metric(found.get("metric"))]
    parts.append(table("feature | kind | statistic | value# | threshold# | p-value# | rows# | ", rows))
    note = f" {found['note']}." if found.get("note") else ""
    lead = f"{found['rows']:,} fresh rows, judged by {found['version'] or 'nobody: nothing is live'}; {told}.{note}"
    return Section("Drift", lead, (*parts, *pictures(workspace.monitoring)), stage="monitor")


def _metric(metric: Mapping[str, Any] | None) -> list[Table]:
    if not metric or metric.get("value") is None:
        return []
    (span,) = spans([(metric["value"], metric["low"], metric["high"])])
    row = (
        metric["name"],
        _number(metric["value"]),
        f"{metric['low']:.4f} to {metric['high']:.4f}",
        span,
        _number(metric.get("baseline")),
        f"{_number(metric.get('drop'))} ({_number(metric.get('drop_low'))} to {_number(metric.get('drop_high'))})",
    )
    return [table("metric | on fresh rows# | interval# | | when it was made# | lost, interval#", [row])]


def feedback_section(workspace: Workspace) -> Section | None:
    """How much of what people said became rows to learn from, and why the rest did not."""
    facts = arrivals_facts(workspace)
    feedback = facts.get("feedback") if facts else None
    if not isinstance(feedback, Mapping):
        return None
    said, used = feedback["right"] + feedback["wrong"], feedback["rows"]
    refused = [(rule, f"{count:,}") for rule, count in sorted(feedback["refused"].items(), key=lambda item: -item[1])]
    lead = (
        f"{said:,} answers were judged, {feedback['right']:,} right and {feedback['wrong']:,} wrong; "
        f"{used:,} of them are rows to learn from now."
    )
    agreement = ((read_monitoring(workspace) or {}).get("feedback") or {}).get("agreement")
    if agreement:
        low, high = agreement["low"], agreement["high"]
        lead += f" Of all answers that were judged, {agreement['value']:.1%} are right ({low:.1%} to {high:.1%})."
    parts = (table("refused because of | times#", refused),) if refused else ()
    return Section("Feedback", lead, parts, stage="arrivals")


def arrivals_section(workspace: Workspace) -> Section | None:
    """The batches that arrived since the champion's data were read, and what the gate said of each."""
    batches = _json(workspace.arrivals / "batches.json")
    if not batches:
        return None
    rows = [
        (
            one["batch"],
            one["time"],
            f"{len(one['objects']) if isinstance(one['objects'], list) else one['objects']:,}",
            f"{one['rows']:,}",
            f"{one['quarantined']:,}",
            "passed" if one["passed"] else "refused",
            "; ".join(map(str, one["reasons"] or one.get("expectations_failed", ()))),
        )
        for one in batches
    ]
    refused = sum(not one["passed"] for one in batches)
    lead = f"{len(batches):,} batches since the champion's data were read; the gate refused {refused:,}."
    parts = (table("batch | time | objects# | rows# | quarantined# | gate | reasons", rows),)
    return Section("Arrivals", lead, parts, stage="arrivals")


def read_decision(workspace: Workspace) -> dict[str, Any] | None:
    """What the last update decided; None before the first."""
    found = _json(workspace.decision / "decision.json")
    return found if isinstance(found, dict) else None


def read_monitoring(workspace: Workspace) -> dict[str, Any] | None:
    """What the last update saw of fresh rows; None before the first."""
    found = _json(workspace.monitoring / "monitoring.json")
    return found if isinstance(found, dict) else None


def arrivals_facts(workspace: Workspace) -> Mapping[str, Any] | None:
    """The figures of what arrived, and of feedback; None before the first update."""
    manifest = _json(workspace.arrivals / "manifest.json")
    return manifest["facts"] if isinstance(manifest, dict) else None


def _number(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, int | float) else "–" if value is None else str(value)


def _json(path: Path) -> Any:  # noqa: ANN401 - as written by the nodes
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
