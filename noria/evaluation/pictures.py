"""Pictures of an evaluation, drawn without a display."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noria.evaluation.judged import Judged
from noria.evaluation.metrics import CALIBRATION_BINS, confidence_bins, confusion
from noria.evaluation.slices import SliceScore

BLUE, RED, GREY = "#2b6cb0", "#c53030", "#a0aec0"
_MOST_CELLS_WITH_NUMBERS = 20
_MOST_BINS, _DRAWS = 8, 500


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG that depends on nothing but what is drawn."""
    figure.savefig(path, dpi=130, metadata={"Software": None})


def draw_confusion(judged: Judged, path: Path) -> None:
    """Actual class by predicted class; colour is the share of the actual class."""
    counts = confusion(judged)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(4.0, 0.35 * len(judged.labels) + 2)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title=f"{judged.num_rows:,} validation rows")
    axes.set_xticks(range(len(judged.labels)), judged.labels, parse_math=False)
    axes.set_yticks(range(len(judged.labels)), judged.labels, parse_math=False)
    if len(judged.labels) <= _MOST_CELLS_WITH_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}\n{shares[row, column]:.1%}", ha="center", va="center", color=colour)
    save_figure(figure, path)


def draw_reliability(judged: Judged, path: Path) -> None:
    """How often the model is right when it says it is so sure, with the rows behind each bin below."""
    confidence_N = judged.outputs.max(axis=1)
    bins_N = confidence_bins(confidence_N)
    rows_K = np.bincount(bins_N, minlength=CALIBRATION_BINS)
    right_K = np.bincount(bins_N, weights=judged.predicted == judged.targets, minlength=CALIBRATION_BINS)
    said_K = np.bincount(bins_N, weights=confidence_N, minlength=CALIBRATION_BINS)
    filled = rows_K > 0
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    upper.plot((said_K / np.maximum(rows_K, 1))[filled], (right_K / np.maximum(rows_K, 1))[filled], "o-", color=BLUE)
    upper.set(ylabel="share that is right", ylim=(0, 1.02), title="Reliability")
    upper.legend(frameon=False)
    centres = (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS
    lower.bar(centres, rows_K, width=0.9 / CALIBRATION_BINS, color=GREY)
    lower.set(xlabel="confidence", ylabel="rows", xlim=(0, 1.02))
    save_figure(figure, path)


def draw_slices(scores: Sequence[SliceScore], overall: float, name: str, path: Path) -> None:
    """The metric of each slice with its interval, against the whole."""
    figure = Figure(figsize=(6.5, 0.42 * len(scores) + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.axvline(overall, color=GREY, linestyle="--", label=f"all rows {overall:.3f}")
    for place, score in enumerate(reversed(scores)):
        estimate = score.estimate
        colour = GREY if not score.judged else RED if estimate.high < overall else BLUE
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
        axes.plot(estimate.value, place, "o", color=colour)
    axes.set_yticks(
        range(len(scores)), [f"{score.name} ({score.rows:,})" for score in reversed(scores)], parse_math=False
    )
    axes.set(xlabel=name)
    figure.suptitle("Slices; grey ones are too small to judge")  # over the names of the slices too, which may be long
    axes.legend(frameon=False, loc="lower left")
    save_figure(figure, path)


def draw_by_length(
    judged: Judged,
    path: Path,
    *,
    of: str,
    lengths_N: np.ndarray,
    metric: str,
    score: Callable[[np.ndarray, int], np.ndarray],
) -> None:
    """A metric in bins of equally many rows, with 95 % bootstrap intervals, and the trivial answer beside it.

    `score` takes sums of the outputs of rows, (R, C), and of how many rows they are; returns the metric, (R).
    """
    shares = np.linspace(0, 1, min(_MOST_BINS, judged.num_rows) + 1)
    edges = np.unique(np.quantile(lengths_N, shares, method="inverted_cdf"))  # lengths that rows have: no bin is empty
    edges[-1] += 1
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    names: list[str] = []
    for low, high in itertools.pairwise(edges.tolist() if len(edges) > 1 else [0, int(edges[0])]):
        member = (lengths_N >= low) & (lengths_N < high)
        num_rows = int(member.sum())
        weights_RN = rng.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=_DRAWS)
        for outputs, colour, shift in ((judged.outputs, BLUE, -0.08), (judged.trivial, GREY, 0.08)):
            ends = np.quantile(score(weights_RN @ outputs[member], num_rows), [0.025, 0.975])
            axes.plot([len(names) + shift] * 2, ends, color=colour, linewidth=2)
            value = score(outputs[member].sum(axis=0, keepdims=True), num_rows)[0]
            axes.plot(len(names) + shift, value, "o", color=colour)
        names.append(f"{low:,}–{high - 1:,}\n({num_rows:,})")
    axes.plot([], [], "o", color=BLUE, label="model")
    axes.plot([], [], "o", color=GREY, label=judged.trivial_name)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    title = f"{metric} by length of the {of}"
    axes.set(xlabel=f"characters of the {of} (rows)", ylabel=metric, ylim=(0, None), title=title)
    axes.legend(frameon=False)
    save_figure(figure, path)
