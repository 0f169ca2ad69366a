"""A picture of the images that a model misread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noria.data.images import picture_of
from noria.data.pixels import Fault
from noria.evaluation.judged import Judged
from noria.evaluation.pictures import save_figure

_MOST, _COLUMNS = 32, 8


def draw_misread(judged: Judged, payloads: Sequence[object], path: Path) -> None:
    """Each misread image with what was said and what is true, the surest mistakes first; `payloads` are encoded."""
    sure_N = judged.outputs.max(axis=1)
    wrong = np.flatnonzero(judged.predicted != judged.targets)
    shown = wrong[np.argsort(-sure_N[wrong], kind="stable")][:_MOST]
    num_lines = max(1, -(-len(shown) // _COLUMNS))
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.95 * num_lines + 0.6), layout="constrained")
    figure.suptitle(f"{len(wrong):,} of {judged.num_rows:,} validation images misread, the surest first")
    grid = figure.subplots(num_lines, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, shown, strict=False):
        found = picture_of(payloads[row])
        if not isinstance(found, Fault):
            axes.imshow(found.pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
        said, truth = judged.labels[judged.predicted[row]], judged.labels[judged.targets[row]]
        axes.set_title(f"said {said} ({sure_N[row]:.0%})\ntrue {truth}", fontsize=9)
    save_figure(figure, path)
