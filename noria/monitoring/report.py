"""The report of one look at the champion: figures for programs, a page for people, pictures."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.evaluation.bootstrap import Estimate
from noria.monitoring.drift import Feature, LabelShift
from noria.monitoring.monitor import FreshMetric, Monitoring, Said

FIGURES, PAGE = "monitoring.json", "monitoring.md"
DRIFT, SHIFTS = "drift.png", "shifts.png"


def write_monitoring(path: Path, found: Monitoring, *, parents: tuple[Artifact, ...]) -> Artifact:
    """Write the artifact "monitoring"."""
    with write_artifact(path, kind="monitoring", parents=parents) as draft:
        values = asdict(replace(found, samples=None))
        del values["samples"]
        text = json.dumps(values, indent=2, ensure_ascii=False)
        (draft.path / FIGURES).write_text(text + "\n", encoding="utf-8")
        (draft.path / PAGE).write_text(monitoring_markdown(found), encoding="utf-8")
        if found.features and found.samples:
            from noria.monitoring.pictures import draw_drift, draw_shifts  # a second that a look at nothing saves

            draw_drift(found.features, draft.path / DRIFT)
            draw_shifts(*found.samples, found.features, draft.path / SHIFTS)
        draft.counts = {"rows": found.rows, "untried": found.untried}
        draft.facts = {"version": found.version, "drifted": [one.name for one in found.features if one.drifted]}
    return read_artifact(path, verify=False)


def read_monitoring(path: Path) -> Monitoring:
    """What `write_monitoring` wrote, without the samples."""
    values: dict[str, Any] = json.loads((path / FIGURES).read_text(encoding="utf-8"))
    said, agreement = values["feedback"], values["feedback"]["agreement"]
    return Monitoring(
        **values
        | {
            "metric": FreshMetric(**values["metric"]) if values["metric"] else None,
            "features": tuple(Feature(**one) for one in values["features"]),
            "label_shift": LabelShift(**values["label_shift"]) if values["label_shift"] else None,
            "feedback": Said(**said | {"agreement": Estimate(**agreement) if agreement else None}),
        }
    )


def monitoring_markdown(found: Monitoring) -> str:
    """The page."""
    champion = f"The champion is `{found.version}`" if found.version else "Nothing is live"
    lines = [
        f"{champion}. **{found.rows:,} rows** came that it does not know, {found.untried:,} of them new to training."
    ]
    if found.note:
        lines += ["", f"{found.note[0].upper()}{found.note[1:]}."]
    if found.metric is not None:
        lines += ["", *_metric_lines(found.metric)]
    if found.feedback.agreement is not None:
        share, total = found.feedback.agreement, found.feedback.right + found.feedback.wrong
        lines += ["", f"People called {found.feedback.right:,} of {total:,} answers right: {_interval(share)}."]
    if found.label_shift is not None:
        shift = found.label_shift
        lines += ["", f"Labels moved by {shift.value:.1%} of the rows; chance brings up to {shift.by_chance:.1%}."]
    if found.features:
        lines += ["", "| feature | of | difference | counts from | p (all) | Jensen-Shannon | verdict |"]
        lines += ["|---|---|---:|---:|---:|---:|---|", *map(_feature_line, found.features)]
    return "\n".join(lines) + "\n"


def _metric_lines(metric: FreshMetric) -> list[str]:
    drop = Estimate(-metric.drop, -metric.drop_high, -metric.drop_low)
    few = "" if metric.judged else " (too few to judge)"
    return [
        f"| {metric.name} | rows | value |",
        "|---|---:|---|",
        f"| fresh | {metric.rows:,}{few} | {_interval(Estimate(metric.value, metric.low, metric.high))} |",
        f"| validation | | {metric.baseline:.4f} |",
        f"| difference | | {drop.points()} |",
    ]


def _feature_line(one: Feature) -> str:
    verdict, _, _ = one.text.partition(":")
    bits = "–" if one.jensen_shannon is None else f"{one.jensen_shannon:.3f} bit"
    bold = "**" if one.drifted else ""
    return (
        f"| {bold}{one.name}{bold} | {one.kind} | {one.statistic} {one.value:.3f} | {one.threshold:.3f} | "
        f"{one.p_value:.2g} | {bits} | {bold}{verdict}{bold} |"
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"
