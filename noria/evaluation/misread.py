"""What a model misread: the images as a picture, the texts as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from noria.data.images import picture_of
from noria.data.pixels import Fault
from noria.evaluation.judged import Judged
from noria.evaluation.markdown import cell
from noria.evaluation.pictures import save_figure

_MOST, _COLUMNS = 32, 8


def draw_misread(judged: Judged, payloads: Sequence[object], path: Path) -> None:
    """Each misread image with what was said and what is true, the surest mistakes first; `payloads` are encoded."""
    shown = _surest_mistakes(judged)
    num_lines = max(1, -(-len(shown) // _COLUMNS))
    figure = Figure(figsize=(1.5 * _COLUMNS, 1.95 * num_lines + 0.6), layout="constrained")
    num_wrong = int((judged.predicted != judged.targets).sum())
    figure.suptitle(f"{num_wrong:,} of {judged.num_rows:,} validation images misread, the surest first")
    grid = figure.subplots(num_lines, _COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, shown, strict=False):
        found = picture_of(payloads[row])
        if not isinstance(found, Fault):
            axes.imshow(found.pixels.squeeze(), cmap="gray", vmin=0, vmax=255)
        said, truth = _said_and_truth(judged, int(row))
        axes.set_title(f"said {said} ({judged.outputs[row].max():.0%})\ntrue {truth}", fontsize=9, parse_math=False)
    save_figure(figure, path)


def write_misread(judged: Judged, texts: Sequence[str], path: Path) -> None:
    """The same as a table in Markdown, of what each row says."""
    lines = ["| said | sure | true | of |", "|---|---|---|---|"]
    for row in _surest_mistakes(judged):
        said, truth = _said_and_truth(judged, int(row))
        lines.append(f"| {cell(said)} | {judged.outputs[row].max():.0%} | {cell(truth)} | {cell(texts[row])} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _surest_mistakes(judged: Judged) -> np.ndarray:
    wrong = np.flatnonzero(judged.predicted != judged.targets)
    return wrong[np.argsort(-judged.outputs.max(axis=1)[wrong], kind="stable")][:_MOST]


def _said_and_truth(judged: Judged, row: int) -> tuple[str, str]:
    return judged.labels[judged.predicted[row]], judged.labels[judged.targets[row]]
