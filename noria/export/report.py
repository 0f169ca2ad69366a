"""The optimization report: what every candidate costs and gives, and which was taken."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import MappingProxyType

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from noria.artifacts import Artifact, write_artifact
from noria.evaluation.pictures import BLUE, GREY, RED, save_figure
from noria.export.candidates import REFERENCE, SIZES, Candidate
from noria.export.forms import in_a_line
from noria.export.summary import METRICS, PICTURE, TABLE
from noria.training.compress import Compressed

_MEBIBYTE = 1 << 20
_LARGEST_MARKER, _SMALL_MARKER = 400.0, 60.0  # square points
_MARKERS = "XosD^vP*hp<>8dH"
_LEGEND_INCHES = 0.42  # of one candidate


@dataclass(frozen=True)
class _Column:
    name: str
    decimals: int
    of: Callable[[Candidate], float]


def _latency(rows: int, quantile: str) -> _Column:
    def of(candidate: Candidate) -> float:
        return float(getattr(candidate.latency[rows], f"{quantile}_ms")) if candidate.latency else math.nan

    return _Column(f"rows_{rows}_{quantile}_ms", 2, of)


def _mebibytes(num_bytes: int) -> float:
    return num_bytes / _MEBIBYTE if num_bytes else math.nan


_COLUMNS = (
    _Column("metric", 4, lambda candidate: candidate.metric),
    _Column("drop", 4, lambda candidate: candidate.drop.value),
    _Column("drop_low", 4, lambda candidate: candidate.drop.low),
    _Column("drop_high", 4, lambda candidate: candidate.drop.high),
    _Column("slice_drop", 4, lambda candidate: candidate.slice_drop.value),
    _Column("difference", 7, lambda candidate: candidate.difference),
    *(_latency(rows, quantile) for rows in SIZES for quantile in ("p50", "p99")),
    _Column("rows_per_s", 0, lambda candidate: candidate.rows_per_s or math.nan),
    _Column("size_mib", 2, lambda candidate: _mebibytes(candidate.size_bytes)),
    _Column("memory_mib", 0, lambda candidate: _mebibytes(candidate.memory_bytes)),
)


def write_optimization(
    path: Path,
    candidates: Sequence[Candidate],
    *,
    chosen: Candidate,
    reason: str,
    metric: str,
    parents: tuple[Artifact, ...],
    compressed: Mapping[str, Compressed | Exception] = MappingProxyType({}),
) -> None:
    """Write `reports/optimization/`: candidates.csv, candidates.png, and metrics.json about the chosen one.

    What made models smaller, and how long that took, is in metrics.json as well.
    """
    with write_artifact(path, kind="optimization", parents=parents) as draft:
        values: dict[str, object] = {
            "candidate": chosen.name,
            "reason": reason,
            metric: round(chosen.metric, 6),
            "drop": round(chosen.drop.value, 6),
            "rows_per_s": round(chosen.rows_per_s, 1),
            "size_bytes": chosen.size_bytes,
            "memory_bytes": chosen.memory_bytes,
        }
        for rows in SIZES:
            found, reference = (candidate.latency[rows].p50_ms for candidate in (chosen, candidates[0]))
            values |= {f"rows_{rows}_p50_ms": found, f"speedup_rows_{rows}": round(reference / found, 2)}
        if compressed:
            values["compress"] = {name: _compression(made) for name, made in compressed.items()}
        (draft.path / METRICS).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _write_table(draft.path / TABLE, candidates, chosen)
        draw_candidates(draft.path / PICTURE, candidates, chosen, metric=metric)
        draft.counts["candidates"] = len(candidates) - 1


def _compression(made: Compressed | Exception) -> dict[str, object]:
    if isinstance(made, Exception):
        return {"failed": in_a_line(made)}
    return {"how": made.how, "parameters": made.parameters, "seconds": round(made.seconds, 1)}


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other is at once faster and better than, the fastest first (Pareto)."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.one_row_ms, -one.metric)):
        if not kept or candidate.metric > kept[-1].metric:
            kept.append(candidate)
    return kept


def _write_table(path: Path, candidates: Sequence[Candidate], chosen: Candidate) -> None:
    on_front = {candidate.name for candidate in front([each for each in candidates if each.latency])}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = (column.name for column in _COLUMNS)
        writer.writerow(["candidate", *columns, "worst_slice", "pareto", "chosen", "verdict"])
        for candidate in candidates:
            numbers = ((column.of(candidate), column.decimals) for column in _COLUMNS)
            cells = ("" if math.isnan(number) else f"{number:.{decimals}f}" for number, decimals in numbers)
            marks = ("yes" if candidate.name in on_front else "", "yes" if candidate is chosen else "")
            writer.writerow([candidate.name, *cells, candidate.worst_slice, *marks, candidate.verdict])


def draw_candidates(path: Path, candidates: Sequence[Candidate], chosen: Candidate, *, metric: str) -> None:
    """Quality against latency, the front through those that nothing beats in both; a marker's area is the size."""
    timed = [candidate for candidate in candidates if candidate.latency]
    figure = Figure(figsize=(7, max(4.5, _LEGEND_INCHES * len(timed))), layout="constrained")
    axes = figure.subplots()
    best = front(timed)
    axes.step(
        [candidate.one_row_ms for candidate in best],
        [candidate.metric for candidate in best],
        where="post",
        color=GREY,
        linestyle="--",
        zorder=1,
    )
    largest = max(candidate.size_bytes for candidate in timed)
    for candidate, marker in zip(timed, cycle(_MARKERS), strict=False):
        colour = GREY if candidate.name == REFERENCE else BLUE if candidate.passed else RED
        size = f", {_mebibytes(candidate.size_bytes):.1f} MiB" if candidate.size_bytes else ""
        axes.scatter(
            candidate.one_row_ms,
            candidate.metric,
            s=_LARGEST_MARKER * (candidate.size_bytes / largest) or _SMALL_MARKER,
            marker=marker,
            color=colour,
            edgecolors="black" if candidate is chosen else colour,
            alpha=0.7,
            label=f"{candidate.name}{': chosen' if candidate is chosen else ''}\n{candidate.one_row_ms:.2f} ms{size}",
            zorder=2,
        )
    axes.set(xlabel="ms for one row, median, one thread", ylabel=metric, title="Candidates; red ones are over budget")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.15, y=0.4)
    axes.legend(
        frameon=False, fontsize="small", markerscale=0.5, loc="center left", bbox_to_anchor=(1, 0.5), title="area: size"
    )
    save_figure(figure, path)
