"""The evaluation report: numbers with intervals, every row's answer, slices, and pictures."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import EvaluateConfig
from noria.evaluation.bootstrap import Estimate, interval
from noria.evaluation.judged import Judged
from noria.evaluation.markdown import cell
from noria.evaluation.metrics import class_scores, main_metric
from noria.evaluation.slices import SliceScore, slice_scores

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
SLICES = "slices.csv"
CONFUSION = "confusion.csv"


@dataclass(frozen=True)
class Evaluation:
    """A model's quality on the validation set; the first metric is the main one."""

    rows: int
    metrics: dict[str, Estimate]
    slices: tuple[SliceScore, ...]


def evaluate_judged(judged: Judged, *, config: EvaluateConfig, seed: int) -> Evaluation:
    """Every metric with its interval, and the main one on every slice."""
    _, metric = main_metric(judged)
    return Evaluation(
        rows=judged.num_rows,
        metrics={
            name: interval(function, judged, config=config, seed=seed) for name, function in judged.metrics.items()
        },
        slices=tuple(slice_scores(metric, judged, config=config, seed=seed)),
    )


def write_report(
    path: Path,
    judged: Judged,
    *,
    config: EvaluateConfig,
    seed: int,
    parents: tuple[Artifact, ...],
    more: Callable[[Path], None] = lambda directory: None,
) -> Artifact:
    """Write `reports/evaluation/`; `more` adds the scenario's own pictures and tables."""
    from noria.evaluation import pictures

    evaluation = evaluate_judged(judged, config=config, seed=seed)
    name, main = next(iter(evaluation.metrics.items()))
    logger.info(
        "%s %.4f (%.4f to %.4f) on %s validation rows", name, main.value, main.low, main.high, f"{evaluation.rows:,}"
    )
    with write_artifact(path, kind="evaluation", parents=parents) as draft:
        values = {"confidence": config.confidence, **_metrics(evaluation, judged)}
        (draft.path / METRICS).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
        pq.write_table(_predictions(judged), draft.path / PREDICTIONS, compression="zstd")
        _write_slices(draft.path / SLICES, name, evaluation.slices)
        if evaluation.slices:
            pictures.draw_slices(evaluation.slices, main.value, name, draft.path / "slices.png")
        if judged.labels:
            _write_confusion(draft.path / CONFUSION, judged)
            pictures.draw_confusion(judged, draft.path / "confusion.png")
            pictures.draw_reliability(judged, draft.path / "reliability.png")
        more(draft.path)
        draft.counts["rows"] = judged.num_rows
    return read_artifact(path, verify=False)


def _metrics(evaluation: Evaluation, judged: Judged) -> dict[str, object]:
    """Nested as `dvc metrics show` likes it: a number a metric, ends of intervals beside it."""
    values: dict[str, object] = {"rows": evaluation.rows}
    for name, estimate in evaluation.metrics.items():
        values |= {name: _rounded(estimate.value), f"{name}_interval": _ends(estimate)}
    name = next(iter(evaluation.metrics))
    values["slices"] = {
        part.name: {name: _rounded(part.estimate.value), "interval": _ends(part.estimate), "rows": part.rows}
        for part in evaluation.slices
    }
    if judged.labels:
        values["classes"] = {
            score.label: {
                "precision": _rounded(score.precision),
                "recall": _rounded(score.recall),
                "f1": _rounded(score.f1),
                "rows": score.rows,
            }
            for score in class_scores(judged)
        }
    return values


def _predictions(judged: Judged) -> pa.Table:
    """id, label, predicted, score per class, and a flag per slice."""
    columns: dict[str, object] = {"id": list(judged.ids)}
    if judged.labels:
        columns["label"] = [judged.labels[i] for i in judged.targets]
        columns["predicted"] = [judged.labels[i] for i in judged.predicted]
        columns |= {f"score_{name}": judged.outputs[:, i].astype("float32") for i, name in enumerate(judged.labels)}
    elif judged.outputs.ndim == 1:
        columns |= {"label": judged.targets, "predicted": judged.outputs}
    columns |= judged.columns
    columns |= {f"slice_{name}": member for name, member in judged.slices.items()}
    return pa.table(columns)


def _write_slices(path: Path, metric: str, scores: Sequence[SliceScore]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slice", "rows", metric, "low", "high", "judged"])
        for score in scores:
            ends = (_rounded(end) for end in (score.estimate.value, score.estimate.low, score.estimate.high))
            writer.writerow([score.name, score.rows, *ends, score.judged])


def _write_confusion(path: Path, judged: Judged) -> None:
    """A line a row: DVC's `confusion` template counts them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["actual", "predicted"])
        writer.writerows(
            (judged.labels[actual], judged.labels[said])
            for actual, said in zip(judged.targets, judged.predicted, strict=True)
        )


def _rounded(value: float) -> float:
    return round(value, 6)


def _ends(estimate: Estimate) -> dict[str, float]:
    return {"low": _rounded(estimate.low), "high": _rounded(estimate.high)}


def report_markdown(path: Path) -> str:
    """The report's numbers as tables, for the run's page."""
    values = json.loads((path / METRICS).read_text(encoding="utf-8"))
    lines = [f"**{values['rows']:,} validation rows**, {values['confidence']:.0%} bootstrap intervals", ""]
    lines += ["| metric | value | interval |", "|---|---|---|"]
    for name in [key.removesuffix("_interval") for key in values if key.endswith("_interval")]:
        ends = values[f"{name}_interval"]
        lines.append(f"| {name} | **{values[name]:.4f}** | {ends['low']:.4f} to {ends['high']:.4f} |")
    for title, part in (("slice", values["slices"]), ("class", values.get("classes", {}))):
        lines += _markdown_rows(title, part)
    return "\n".join(lines) + "\n"


def _markdown_rows(title: str, parts: dict[str, dict[str, object]]) -> list[str]:
    if not parts:
        return []
    columns = [name for name in next(iter(parts.values())) if name != "interval"]
    lines = ["", f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, values in parts.items():
        cells = (f"{v:,}" if isinstance(v, int) else f"{v:.4f}" for v in (values[column] for column in columns))
        lines.append(f"| {cell(name)} | {' | '.join(cells)} |")
    return lines
