"""The learning curves as a picture and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the flow shows the report at every run: reading it needs neither torch nor matplotlib
    from noria.training.state import Point

LEARNING_CURVE = "learning_curve.png"
TABLE = "training.md"

_PANELS = {
    "loss": ("train_loss", "holdout_loss"),
    "pretraining loss": ("pretrain_loss",),
    "hold-out accuracy": ("holdout_accuracy",),
}
_TITLES = {
    "holdout_loss": "Transformer's hold-out loss, best epoch",
    "wide_accuracy": "hold-out accuracy, n-grams alone",
    "deep_accuracy": "hold-out accuracy, Transformer alone",
    "blend_accuracy": "hold-out accuracy, both",
}


def write_training_report(points: Sequence[Point], directory: Path) -> None:
    """Write the picture and the table into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    draw_learning_curves(points, directory / LEARNING_CURVE)
    (directory / TABLE).write_text(training_table(points) + "\n", encoding="utf-8")


def draw_learning_curves(points: Sequence[Point], path: Path) -> None:
    """Write a PNG with a panel per kind of metric that has points."""
    from matplotlib.figure import Figure

    panels = {title: names for title, names in _PANELS.items() if any(_curve(points, name) for name in names)}
    figure = Figure(figsize=(5 * max(len(panels), 1), 3.2), layout="constrained")
    for number, (title, names) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), number + 1, title=title, xlabel="step")
        for name in names:
            curve = _curve(points, name)
            axes.plot([x for x, _ in curve], [y for _, y in curve], marker="." if len(curve) < 10 else "", label=name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def training_table(points: Sequence[Point]) -> str:
    """Markdown of what the hold-out said; these rows picked the epoch, so they judge nothing."""
    lines = ["| measure | value |", "|---|---|"]
    for name, title in _TITLES.items():
        values = [value for _, value in _curve(points, name)]
        if values:
            lines.append(f"| {title} | {min(values) if name.endswith('loss') else values[-1]:.4f} |")
    return "\n".join(lines)


def _curve(points: Sequence[Point], name: str) -> list[tuple[int, float]]:
    return [(point.step, point.values[name]) for point in points if name in point.values]
