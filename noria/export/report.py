"""The optimization report: what every candidate costs and gives, and which was taken."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from noria.artifacts import Artifact, write_artifact
from noria.evaluation.pictures import BLUE, GREY, RED, save_figure
from noria.export.candidates import REFERENCE, Candidate
from noria.export.summary import METRICS, PICTURE, TABLE

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class _Column:
    name: str
    decimals: int


_COLUMNS = (
    _Column("metric", 4),
    _Column("drop", 4),
    _Column("slice_drop", 4),
    _Column("difference", 7),
    _Column("rows_1_p50_ms", 2),
    _Column("rows_1_p99_ms", 2),
    _Column("rows_32_p50_ms", 2),
    _Column("rows_32_p99_ms", 2),
    _Column("size_mib", 2),
)


def write_optimization(
    path: Path,
    candidates: Sequence[Candidate],
    *,
    chosen: Candidate,
    reason: str,
    metric: str,
    parents: tuple[Artifact, ...],
) -> None:
    """Write `reports/optimization/`: candidates.csv, candidates.png, and metrics.json about the chosen one."""
    with write_artifact(path, kind="optimization", parents=parents) as draft:
        values = {
            "candidate": chosen.name,
            "reason": reason,
            metric: round(chosen.metric, 6),
            "drop": round(chosen.drop, 6),
            "rows_1_p50_ms": chosen.small.p50_ms,
            "rows_32_p50_ms": chosen.large.p50_ms,
            "speedup_rows_1": round(candidates[0].small.p50_ms / chosen.small.p50_ms, 2),
            "speedup_rows_32": round(candidates[0].large.p50_ms / chosen.large.p50_ms, 2),
            "size_bytes": chosen.size_bytes,
        }
        (draft.path / METRICS).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _write_table(draft.path / TABLE, candidates, chosen)
        _draw(draft.path / PICTURE, candidates, chosen, metric)
        draft.counts["candidates"] = len(candidates) - 1


def _write_table(path: Path, candidates: Sequence[Candidate], chosen: Candidate) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["candidate", *(column.name for column in _COLUMNS), "worst_slice", "chosen", "verdict"])
        for candidate in candidates:
            cells = (
                "" if math.isnan(number) else f"{number:.{column.decimals}f}"
                for column, number in zip(_COLUMNS, _numbers(candidate), strict=True)
            )
            taken = "yes" if candidate is chosen else ""
            writer.writerow([candidate.name, *cells, candidate.worst_slice, taken, candidate.verdict])


def _numbers(candidate: Candidate) -> tuple[float, ...]:
    return (
        candidate.metric,
        candidate.drop,
        candidate.slice_drop,
        candidate.difference,
        candidate.small.p50_ms,
        candidate.small.p99_ms,
        candidate.large.p50_ms,
        candidate.large.p99_ms,
        candidate.size_bytes / _MEBIBYTE if candidate.path else math.nan,
    )


def _draw(path: Path, candidates: Sequence[Candidate], chosen: Candidate, metric: str) -> None:
    """Quality against latency: up and to the left is better."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    timed = [candidate for candidate in candidates if not math.isnan(candidate.small.p50_ms)]
    for candidate, marker in zip(timed, "XosD", strict=False):
        colour = GREY if candidate.name == REFERENCE else BLUE if candidate.passed else RED
        name = f"{candidate.name}, {candidate.small.p50_ms:.2f} ms{': chosen' if candidate is chosen else ''}"
        axes.plot(candidate.small.p50_ms, candidate.metric, marker, color=colour, markersize=9, alpha=0.8, label=name)
    axes.set(xlabel="ms for one row, median, one thread", ylabel=metric, title="Candidates; red ones are over budget")
    axes.set_xlim(0, 1.1 * max(candidate.small.p50_ms for candidate in timed))
    axes.margins(y=0.4)
    axes.legend(frameon=False)
    save_figure(figure, path)
