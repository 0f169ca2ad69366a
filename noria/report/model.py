"""Sections on the model: how it was trained, how good it is, in which form it serves, and whether it goes live."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.evaluation.report import METRICS
from noria.export.summary import METRICS as CHOSEN
from noria.export.summary import TABLE as CANDIDATES
from noria.report.parts import Section, Table, pictures, spans, table, tables_of_markdown
from noria.training.report import TABLE as TRAINING
from noria.workspace import Workspace

_CANDIDATE_COLUMNS = {
    "candidate": "candidate",
    "metric": "metric#",
    "drop": "loss of it#",
    "rows_1_p50_ms": "ms, 1 row#",
    "rows_32_p50_ms": "ms, 32 rows#",
    "rows_per_s": "rows/s#",
    "size_mib": "MiB#",
    "pareto": "on the front",
    "verdict": "verdict",
}
_MOST_ROWS = 60


def verdict_section(workspace: Workspace) -> Section | None:
    """Champion against challenger: the decision, and every gain with its interval."""
    verdict = _json(workspace.verdict / "verdict.json")
    if verdict is None:
        return None
    parts: list[Table] = []
    if verdict["gain"] is not None:
        models = [
            ("challenger", verdict["challenger"], f"{verdict['challenger_metric']:.4f}"),
            ("champion", verdict["champion"] or "none: a trivial answer", f"{verdict['champion_metric']:.4f}"),
        ]
        parts.append(table(f"model | version | {verdict['metric']}#", models))
        parts.append(_gains(verdict))
    if verdict.get("trial"):
        parts.append(_trial(verdict["trial"]))
    return Section("Verdict", f"{verdict['decision']}: {'; '.join(verdict['reasons'])}.", tuple(parts), stage="update")


def _gains(verdict: Mapping[str, Any]) -> Table:
    everywhere = {"name": "everywhere", "rows": verdict["rows"], "estimate": verdict["gain"], "judged": True}
    places = [everywhere, *verdict["slices"]][:_MOST_ROWS]
    drawn = spans([_ends(place["estimate"]) for place in places], around_zero=True)
    rows = [
        (
            place["name"] if place["judged"] else f"{place['name']} (too few rows to judge)",
            f"{place['rows']:,}",
            f"{100 * place['estimate']['value']:+.2f}",
            f"{100 * place['estimate']['low']:+.2f} to {100 * place['estimate']['high']:+.2f}",
            span,
        )
        for place, span in zip(places, drawn, strict=True)
    ]
    return table("where | rows# | gain, points# | interval# | against zero", rows, caption="Gain over the champion")


def _trial(trial: Mapping[str, Any]) -> Table:
    rows = [
        (
            role,
            side["version"],
            f"{side['requests']:,}",
            f"{side['errors']:,}",
            f"{side['right']:,} / {side['wrong']:,}",
        )
        for role, side in ((trial["mode"], trial["canary"]), ("champion", trial["champion"]))
    ]
    caption = f"On requests: {trial['decision']}: {'; '.join(trial['reasons'])}"
    return table("role | version | requests# | errors# | called right / wrong#", rows, caption=caption)


def training_section(workspace: Workspace) -> Section | None:
    """The learning curve, what the hold-out said, and what it took."""
    path = workspace.training_report / TRAINING
    if not path.exists():
        return None
    tables = tables_of_markdown(path.read_text(encoding="utf-8"))
    return Section("Training", "", (*pictures(workspace.training_report), *tables), stage="train")


def evaluation_section(workspace: Workspace) -> Section | None:
    """Metrics, slices and classes with intervals, and the scenario's pictures and tables."""
    values = _json(workspace.evaluation / METRICS)
    if values is None:
        return None
    metrics = [name.removesuffix("_interval") for name in values if name.endswith("_interval")]
    main = metrics[0]
    parts: list[Table] = [
        table(
            "metric | value# | interval#",
            [(name, f"{values[name]:.4f}", _between(values[f"{name}_interval"])) for name in metrics],
        )
    ]
    if values["slices"]:
        parts.append(_slices(values["slices"], main))
    if values.get("classes"):
        rows = [
            (name, f"{one['precision']:.3f}", f"{one['recall']:.3f}", f"{one['f1']:.3f}", f"{one['rows']:,}")
            for name, one in list(values["classes"].items())[:_MOST_ROWS]
        ]
        parts.append(table("class | precision# | recall# | F1# | rows#", rows))
    told = [
        found
        for path in sorted(workspace.evaluation.glob("*.md"))
        for found in tables_of_markdown(path.read_text(encoding="utf-8"))
    ]
    shown = [Table(one.header, one.rows[:_MOST_ROWS], one.caption) for one in told]
    lead = f"{main} {values[main]:.4f} ({_between(values[f'{main}_interval'])}) on {values['rows']:,} validation rows."
    return Section("Evaluation", lead, (*parts, *pictures(workspace.evaluation), *shown), stage="evaluate")


def _slices(slices: Mapping[str, Mapping[str, Any]], main: str) -> Table:
    shown = dict(list(slices.items())[:_MOST_ROWS])
    drawn = spans([(one[main], one["interval"]["low"], one["interval"]["high"]) for one in shown.values()])
    rows = [
        (name, f"{one['rows']:,}", f"{one[main]:.4f}", _between(one["interval"]), span)
        for (name, one), span in zip(shown.items(), drawn, strict=True)
    ]
    return table(f"slice | rows# | {main}# | interval# | on one scale", rows)


def optimization_section(workspace: Workspace) -> Section | None:
    """Every candidate's quality, latency and size, the front among them, and the reason for the choice."""
    values, path = _json(workspace.optimization / CHOSEN), workspace.optimization / CANDIDATES
    if values is None or not path.exists():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        candidates = list(csv.DictReader(file))
    rows = [tuple(candidate[name] for name in _CANDIDATE_COLUMNS) for candidate in candidates]
    candidates_table = table(" | ".join(_CANDIDATE_COLUMNS.values()), rows)
    lead = f"{values['candidate']} becomes the bundle. {values['reason']}."
    return Section("Optimization", lead, (*pictures(workspace.optimization), candidates_table), stage="optimize")


def _ends(estimate: Mapping[str, float]) -> tuple[float, float, float]:
    return estimate["value"], estimate["low"], estimate["high"]


def _between(ends: Mapping[str, float]) -> str:
    return f"{ends['low']:.4f} to {ends['high']:.4f}"


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
