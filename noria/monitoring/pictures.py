"""Pictures of drift, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from noria.evaluation.pictures import BLUE, GREY, RED, save_figure
from noria.explain.fonts import lettering
from noria.monitoring.drift import Feature, Sample

_MOST_SHOWN = 24
_MOST_SHIFTS = 6
_MOST_CATEGORIES = 8
_MOST_LETTERS = 12
_BINS = 20
_MOST_TIMES = 3.0


def draw_drift(features: Sequence[Feature], path: Path) -> None:
    """How far each feature is, in thresholds of its own: from 1 on it counts, if it is beyond chance too."""
    shown = list(reversed(features[:_MOST_SHOWN]))
    figure = Figure(figsize=(7.5, 0.32 * len(shown) + 1.5), layout="constrained")
    axes = figure.subplots()
    times = [min(one.value / one.threshold, _MOST_TIMES) for one in shown]
    axes.barh(range(len(shown)), times, color=[RED if one.drifted else GREY for one in shown])
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    for place, one in enumerate(shown):
        axes.text(max(times[place], 0) + 0.03, place, f"{one.value:.3f}  p {one.p_value:.2g}", va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), [one.name for one in shown], parse_math=False)
    axes.set(xlim=(0, _MOST_TIMES + 0.7), xlabel="difference, in thresholds")
    figure.suptitle("Drift from the champion's baseline; red counts")
    save_figure(figure, path)


def draw_shifts(old: Sample, new: Sample, features: Sequence[Feature], path: Path) -> None:
    """The distributions of the features that moved most, before and now."""
    columns = [one for one in features if one.kind != "vector"]
    chosen = [one for one in columns if one.value > 0][:_MOST_SHIFTS] or columns[:1]
    if not chosen:
        return
    rows = -(-len(chosen) // 3)
    figure = Figure(figsize=(10.5, 2.7 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, 3, squeeze=False).ravel()
    numbers = [{**side.features.numbers, **side.answers.numbers} for side in (old, new)]
    categories = [{**side.features.categories, **side.answers.categories} for side in (old, new)]
    for axes, one in zip(grid, chosen, strict=False):
        if one.kind == "number":
            _draw_numbers(axes, *(side[one.name] for side in numbers))
        else:
            _draw_categories(axes, *(side[one.name] for side in categories))
        axes.set_title(one.name, color=RED if one.drifted else "black", fontsize=10, parse_math=False)
    for axes in grid[len(chosen) :]:
        axes.set_visible(False)
    grid[0].legend(frameon=False, fontsize=8)
    figure.suptitle("Share of rows: baseline and arrivals")
    save_figure(figure, path)


def _draw_numbers(axes: Axes, old: np.ndarray, new: np.ndarray) -> None:
    """Between the outer percentiles of both: one far value would hide all others."""
    both = np.concatenate([old, new])
    low, high = np.nanquantile(both, [0.005, 0.995]) if np.isfinite(both).any() else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    for values, colour, name in ((old, GREY, "baseline"), (new, BLUE, "arrivals")):
        counts = np.histogram(np.clip(values[np.isfinite(values)], edges[0], edges[-1]), edges)[0]
        axes.stairs(counts / max(len(values), 1), edges, color=colour, label=name, fill=colour == GREY, linewidth=1.5)


def _draw_categories(axes: Axes, old: Sequence[str], new: Sequence[str]) -> None:
    counts = [_counts(side) for side in (old, new)]
    names = sorted({*counts[0], *counts[1]}, key=lambda name: -max(side.get(name, 0) for side in counts))
    names = names[:_MOST_CATEGORIES]
    for offset, side, colour, label in ((-0.2, counts[0], GREY, "baseline"), (0.2, counts[1], BLUE, "arrivals")):
        places = [place + offset for place in range(len(names))]
        axes.bar(places, [side.get(name, 0.0) for name in names], width=0.4, color=colour, label=label)
    written = lettering([name[:_MOST_LETTERS] for name in names])
    rotation, family = 30 if len(names) > 3 else 0, list(written.families)
    axes.set_xticks(range(len(names)), written.names, rotation=rotation, fontfamily=family, parse_math=False)


def _counts(values: Sequence[str]) -> Mapping[str, float]:
    names, counts = np.unique(np.array(values, dtype=str), return_counts=True)
    return dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))
