"""An explanation as a picture: contributions and rollout as bars, attention as a heat map per layer and head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from noria.explain.explanation import Explanation
from noria.explain.fonts import Lettering, lettering

_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a")
_GREY = "#718096"
_TOKEN_INCHES = 0.2
_LABEL_INCHES = 0.12  # the narrowest row of a readable label
_PANEL_INCHES = (2.4, 10.0)
_STRIP_INCHES = 2.4
_WIDTH_INCHES = (8.0, 40.0)
_SPACE = "␣"


def draw_explanation(explanation: Explanation, path: Path) -> None:
    """Write a PNG: two strips of bars, then a row of heat maps per layer."""
    names = [token.text if token.text.strip() else _SPACE for token in explanation.tokens]
    letters = lettering(names)
    num_layers = len(explanation.attention)
    num_heads = len(explanation.attention[0]) if num_layers else 1
    panel = float(np.clip(_TOKEN_INCHES * len(names), *_PANEL_INCHES))
    panel = min(panel, _WIDTH_INCHES[1] / num_heads - 0.8)
    strips = 2 if num_layers else 1
    width = max(_WIDTH_INCHES[0], num_heads * (panel + 0.8), min(_TOKEN_INCHES * len(names), _WIDTH_INCHES[1]))
    heights = [_STRIP_INCHES] * strips + [panel + 0.6] * num_layers
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), num_heads, height_ratios=heights)
    _draw_contributions(figure.add_subplot(grid[0, :]), explanation, letters, inches=width - 1)
    if num_layers:
        rollout = {"attention rollout": [token.rollout or 0.0 for token in explanation.tokens]}
        _draw_bars(figure.add_subplot(grid[1, :]), rollout, letters, inches=width - 1)
    for layer, map_HTT in enumerate(explanation.attention):
        for head, map_TT in enumerate(map_HTT):
            axes = figure.add_subplot(grid[2 + layer, head])
            _draw_map(axes, map_TT, letters, inches=panel, title=f"layer {layer + 1}, head {head + 1}")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_contributions(axes: Any, explanation: Explanation, letters: Lettering, *, inches: float) -> None:  # noqa: ANN401
    parts = {name: [token.parts[name] for token in explanation.tokens] for name in explanation.tokens[0].parts}
    _draw_bars(axes, parts, letters, inches=inches)
    if len(parts) > 1:
        totals = [token.contribution for token in explanation.tokens]
        axes.plot(range(len(totals)), totals, "D", color="black", markersize=3.5, label="together")
    axes.axhline(0, color="black", linewidth=0.8)
    sure = explanation.scores[explanation.label]
    axes.set_title(
        f"contributions to “{explanation.label}” ({sure:.1%})", loc="left", family=_with(letters, explanation.label)
    )
    axes.set_ylabel("log-odds" if len(explanation.scores) == 2 else "logit less mean of others")
    _legend(axes)


def _draw_bars(axes: Any, series: Mapping[str, Sequence[float]], letters: Lettering, *, inches: float) -> None:  # noqa: ANN401
    """Bars of several series beside each other, a group per token."""
    bar = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = np.arange(len(values)) + (number - (len(series) - 1) / 2) * bar
        colour = _COLOURS[number % len(_COLOURS)] if len(series) > 1 else _GREY
        axes.bar(places, values, width=bar, color=colour, label=name)
    axes.set_xlim(-0.7, len(letters.names) - 0.3)
    axes.grid(axis="y", alpha=0.3)
    _legend(axes)
    _label(axes.xaxis, letters, inches=inches, upright=False)


def _legend(axes: Any) -> None:  # noqa: ANN401
    """Above the strip, to the right: bars may be anywhere inside."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False)


def _draw_map(axes: Any, map_TT: np.ndarray, letters: Lettering, *, inches: float, title: str) -> None:  # noqa: ANN401
    axes.imshow(map_TT, cmap="Blues", vmin=0, aspect="equal", interpolation="nearest")
    axes.set_title(f"{title}: up to {map_TT.max():.2f}", fontsize=10)
    _label(axes.xaxis, letters, inches=inches, upright=False)
    _label(axes.yaxis, letters, inches=inches, upright=True)
    axes.tick_params(length=0)


def _label(axis: Any, letters: Lettering, *, inches: float, upright: bool) -> None:  # noqa: ANN401
    """Names of the tokens, of every second or third where all would not fit."""
    count = len(letters.names)
    every = max(1, math.ceil(count * _LABEL_INCHES / inches))
    size = float(np.clip(60 * inches * every / count, 6, 10))
    axis.set_ticks(
        range(0, count, every),
        letters.names[::every],
        rotation=0 if upright else 90,
        fontfamily=list(letters.families),
        fontsize=size,
        parse_math=False,
    )


def _with(letters: Lettering, text: str) -> list[str]:
    """Families that have `text` too."""
    return list(dict.fromkeys([*letters.families, *lettering([text]).families]))
