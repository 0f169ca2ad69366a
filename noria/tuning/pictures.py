"""Pictures of a search, drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from noria.config.tune import Scalar
from noria.tuning.search import TrialRecord

_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#a0aec0"
_COLOURS = "viridis"  # dark is low, and low is good
_MOST_COLUMNS = 4
_LOG_FROM = 20.0  # a range of numbers over so many times its lower end is shown by orders of magnitude


@dataclass(frozen=True)
class _Scale:
    """Where values of one path stand, between 0 and 1."""

    places: Sequence[float]
    ticks: Mapping[str, float]


def draw_history(trials: Sequence[TrialRecord], path: Path) -> None:
    """Loss by trial, and the lowest so far; trials that were ended early have no loss of a finished model."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    complete = _complete(trials)
    lowest = [min(_loss(t) for t in complete[: index + 1]) for index in range(len(complete))]
    axes.plot([t.number for t in complete], [_loss(t) for t in complete], "o", color=_BLUE, label="complete")
    axes.step([t.number for t in complete], lowest, where="post", color=_BLUE, alpha=0.5, label="lowest so far")
    if complete[0].number == 0:
        axes.axhline(_loss(complete[0]), color=_RED, linestyle="--", label="current parameters")
    if early := [trial.number for trial in trials if trial.state == "pruned"]:
        _mark_early(axes, early)
    _keep_in_view(axes, complete)
    axes.set(xlabel="trial", ylabel="hold-out loss", title="History")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def draw_importances(importances: Mapping[str, float], path: Path) -> None:
    """What matters, the most on top."""
    figure = Figure(figsize=(6, 0.42 * len(importances) + 1.2), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(importances.items(), key=lambda item: item[1])
    bars = axes.barh([name for name, _ in ordered], [share for _, share in ordered], color=_BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlabel="importance (PED-ANOVA, shares of 1)", title="What tells good trials from the rest")
    axes.margins(x=0.12)
    _save(figure, path)


def draw_parallel(trials: Sequence[TrialRecord], path: Path) -> None:
    """A line a trial across one axis a path: the lower its loss, the darker, and on top; grey where there is none."""
    paths = list(trials[0].values)
    scales = [_scale([trial.values[name] for trial in trials]) for name in paths]
    figure = Figure(figsize=(max(6.0, 1.7 * len(paths) + 2.5), 4.2), layout="constrained")
    axes = figure.subplots()
    colours = _colours(_complete(trials))
    for index in sorted(range(len(trials)), key=lambda i: (trials[i].loss is not None, -(trials[i].loss or 0.0))):
        loss, places = trials[index].loss, [scale.places[index] for scale in scales]
        xs: list[float] = list(range(len(paths)))
        if len(paths) == 1:
            xs, places = [-0.1, 0.1], places * 2
        if loss is None:
            axes.plot(xs, places, color=_GREY, linewidth=0.8, linestyle=":")
        else:
            axes.plot(xs, places, color=colours.to_rgba(np.array([loss]))[0], alpha=0.85, linewidth=1.6)
    for index, scale in enumerate(scales):
        axes.axvline(index, color=_GREY, linewidth=0.8)
        for text, place in scale.ticks.items():
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}
            axes.text(index + 0.03, place, text, fontsize="small", va="center", bbox=box)
    axes.set_xticks(range(len(paths)), [_wrapped(name) for name in paths])
    axes.set(yticks=[], xlim=(-0.3, len(paths) - 0.5), ylim=(-0.08, 1.08), title="Parallel coordinates")
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    figure.colorbar(colours, ax=axes, label="hold-out loss")
    _save(figure, path)


def draw_slices(trials: Sequence[TrialRecord], path: Path) -> None:
    """Loss over the values of each path; the current parameters in red, trials that were ended early at the top."""
    paths = list(trials[0].values)
    columns = min(len(paths), _MOST_COLUMNS)
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(3.0 * columns + 0.6, 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for axes, name in zip(panels, paths, strict=False):
        scale = _scale([trial.values[name] for trial in trials])
        for place, trial in zip(scale.places, trials, strict=True):
            if trial.loss is not None:
                marker, colour = ("D", _RED) if trial.number == 0 else ("o", _BLUE)
                axes.plot(place, trial.loss, marker, color=colour, alpha=0.85)
        _mark_early(axes, [p for p, trial in zip(scale.places, trials, strict=True) if trial.state == "pruned"])
        axes.set_xticks(list(scale.ticks.values()), list(scale.ticks), fontsize="small")
        axes.set_title(name, fontsize="medium")
        axes.set_xlim(-0.12, 1.12)
        axes.grid(alpha=0.3)
    for axes in panels[len(paths) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("hold-out loss")
    _keep_in_view(panels[0], _complete(trials))
    _save(figure, path)


def _mark_early(axes: Axes, places: Sequence[float]) -> None:
    """Crosses along the upper edge: their place says nothing of a loss."""
    axes.plot(places, [0.97] * len(places), "x", color=_GREY, transform=axes.get_xaxis_transform(), label="ended early")


def _scale(values: Sequence[Scalar]) -> _Scale:
    """Numbers by size, or by order of magnitude where they span several; other values side by side."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or len(set(numbers)) < 2:
        names = sorted({str(value) for value in values})
        places = {name: (index + 0.5) / len(names) for index, name in enumerate(names)}
        return _Scale([places[str(value)] for value in values], places)
    low, high = float(min(numbers)), float(max(numbers))
    is_log = low > 0 and high / low >= _LOG_FROM

    def place(value: float) -> float:
        return math.log(value / low) / math.log(high / low) if is_log else (value - low) / (high - low)

    middle = math.sqrt(low * high) if is_log else (low + high) / 2
    ticks = sorted(set(numbers)) if len(set(numbers)) <= 4 and not is_log else [low, middle, high]
    return _Scale([place(value) for value in numbers], {f"{value:.2g}": place(value) for value in ticks})


def _keep_in_view(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    """A few trials that went astray must not flatten all others, but the current parameters stay in sight."""
    losses = sorted(_loss(trial) for trial in trials)
    low, quarter = losses[0], losses[len(losses) * 3 // 4]
    high = max([quarter + 2 * (quarter - low), *(1.05 * _loss(trial) for trial in trials if trial.number == 0)])
    if quarter > low and losses[-1] > high:
        axes.set_ylim(low - 0.05 * (high - low), high)


def _colours(trials: Sequence[TrialRecord]) -> ScalarMappable:
    losses = sorted(_loss(trial) for trial in trials)
    return ScalarMappable(Normalize(losses[0], losses[len(losses) * 3 // 4], clip=True), _COLOURS)


def _complete(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [trial for trial in trials if trial.loss is not None]


def _loss(trial: TrialRecord) -> float:
    assert trial.loss is not None, "only trials with a loss are drawn"
    return trial.loss


def _wrapped(path: str) -> str:
    *sections, leaf = path.split(".")
    return f"{'.'.join(sections)}\n{leaf}" if sections else leaf


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})
