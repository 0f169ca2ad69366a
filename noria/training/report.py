"""The learning curves as a picture, and what training reached and used as tables and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the flow shows the report at every run: reading it needs neither torch nor matplotlib
    from noria.training.state import Point

LEARNING_CURVE = "learning_curve.png"
TABLE = "training.md"
RESOURCES = "resources.json"

Curve = list[tuple[int, float]]
"""(step, value), finite values only."""

_LOSS = "_loss"
_HOLDOUT_LOSS = "holdout_loss"  # what judges a phase is no phase
_JUDGED = {
    "loss": ("train_loss", "holdout_loss"),
    "pretraining loss": ("pretrain_loss",),
    "hold-out accuracy": ("holdout_accuracy",),
}
_WATCHED = {"gradient norm": "grad_norm", "learning rate": "lr", "tokens per second": "tokens_per_s"}
_THROUGHPUT = "tokens_per_s"
_LOG_FROM_RATIO = 30.0
_COLUMNS = 3
_FEW_POINTS = 10
_TITLES = {
    "holdout_loss": "Transformer's hold-out loss, best epoch",
    "wide_accuracy": "hold-out accuracy, n-grams alone",
    "deep_accuracy": "hold-out accuracy, Transformer alone",
    "blend_accuracy": "hold-out accuracy, both",
}
_RESOURCE_TITLES = {
    _THROUGHPUT: "tokens per second, median",
    "mfu": "model FLOPs utilization",
    "wall_s": "time",
    "cpu_s": "CPU time",
    "gpu_energy_j": "GPU energy",
    "peak_memory_bytes": "peak memory",
    "peak_gpu_memory_bytes": "peak GPU memory",
    "cost": "cost",
}


def write_training_report(
    points: Sequence[Point], directory: Path, *, resources: Mapping[str, object], best_loss: float | None = None
) -> None:
    """Write the picture, the tables and `resources.json` into `directory`.

    Parameters
    ----------
    points:
        In the order in which they were recorded. A point with `<phase>_loss` is one of that phase;
        its `grad_norm`, `lr`, `muon_lr` and `tokens_per_s` are drawn. Steps begin anew with each phase.
    resources:
        What was used and what the probe chose, by name: `noria.training.meter.resources_of`, and
        `mfu`, `device`, `precision`, `threads`, `compile`, `micro_batch` …; a value may be a mapping
        from phase to value, and None is left out. The median throughput is added from the points.
    best_loss:
        Of the epoch that was kept, if the hold-out judged any: a rollback may have undone its point.
    """
    directory.mkdir(parents=True, exist_ok=True)
    draw_learning_curves(points, directory / LEARNING_CURVE)
    known = {name: value for name, value in resources.items() if value is not None}
    used = {**_median_throughput(points), **known}
    tables = [table for table in (training_table(points, best_loss=best_loss), resources_table(used)) if table]
    (directory / TABLE).write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    text = json.dumps(used, indent=2, ensure_ascii=False) + "\n"
    (directory / RESOURCES).write_text(text, encoding="utf-8")


def draw_learning_curves(points: Sequence[Point], path: Path) -> None:
    """Write a PNG with a panel per kind of metric that has points, three a row.

    Losses have the step of their phase on the axis; what is watched in every phase has the steps of
    the phases one after the other.
    """
    from matplotlib.figure import Figure

    panels = {title: {name: _curve(points, name) for name in names} for title, names in _JUDGED.items()}
    panels |= {title: _by_phase(points, name) for title, name in _WATCHED.items()}
    panels["learning rate"] |= {f"{phase}, Muon": curve for phase, curve in _by_phase(points, "muon_lr").items()}
    panels = {title: drawn for title, curves in panels.items() if (drawn := {k: v for k, v in curves.items() if v})}
    num_columns = max(1, min(_COLUMNS, len(panels)))
    num_rows = max(1, math.ceil(len(panels) / num_columns))
    figure = Figure(figsize=(4.6 * num_columns, 3.2 * num_rows), layout="constrained")
    for number, (title, curves) in enumerate(panels.items()):
        _draw_panel(figure.add_subplot(num_rows, num_columns, number + 1), title, curves)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _draw_panel(axes: Any, title: str, curves: Mapping[str, Curve]) -> None:  # noqa: ANN401 - matplotlib is untyped
    for name, curve in curves.items():
        steps, values = zip(*curve, strict=True)
        axes.plot(steps, values, marker="." if len(curve) < _FEW_POINTS else "", linewidth=1.2, label=name)
    every = [value for curve in curves.values() for _, value in curve]
    if title == "tokens per second":
        axes.set_ylim(0, 1.25 * max(every))  # room for the legend
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    elif min(every) > 0 and max(every) > _LOG_FROM_RATIO * min(every) and title != "learning rate":
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(_whole_steps())
    axes.set(title=title, xlabel="step, phases in turn" if title in _WATCHED else "step")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _whole_steps() -> Any:  # noqa: ANN401 - matplotlib is untyped
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, integer=True)


def training_table(points: Sequence[Point], *, best_loss: float | None = None) -> str:
    """Markdown of what the hold-out said; these rows picked the epoch, so they judge nothing."""
    lines = ["| measure | value |", "|---|---|"]
    for name, title in _TITLES.items():
        values = [value for _, value in _curve(points, name)]
        last = best_loss if name == _HOLDOUT_LOSS else next(reversed(values), None)
        if last is not None:
            lines.append(f"| {title} | {last:.4f} |")
    return "\n".join(lines)


def resources_table(resources: Mapping[str, object]) -> str:
    """Markdown of what was used, in units that people read; nothing when nothing is known."""
    if not resources:
        return ""
    names = [name for name in _RESOURCE_TITLES if name in resources]
    names += [name for name in resources if name not in _RESOURCE_TITLES]
    rows = [
        f"| {_RESOURCE_TITLES.get(name, name.replace('_', ' '))} | {_spoken(name, resources[name])} |" for name in names
    ]
    return "\n".join(["| resource | value |", "|---|---|", *rows])


def _spoken(name: str, value: object) -> str:
    """A value in the unit that its name ends in."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_spoken(name, part)}" for key, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if name == "mfu":
        return f"{value:.1%}"
    if name == "cost":
        return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"
    if name.endswith("_per_s"):
        return f"{value:,.0f}"
    if name.endswith("_bytes"):
        return f"{value / 1e9:,.2f} GB"
    if name.endswith("_j"):
        return f"{value / 3600:,.1f} Wh" if value < 3_600_000 else f"{value / 3_600_000:,.2f} kWh"
    if name.endswith("_s"):
        return _duration(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.2f} h"


def _median_throughput(points: Sequence[Point]) -> dict[str, object]:
    medians = {phase: median(v for _, v in curve) for phase, curve in _by_phase(points, _THROUGHPUT).items() if curve}
    return {_THROUGHPUT: medians} if medians else {}


def _phases(points: Sequence[Point]) -> list[str]:
    """In the order in which they ran: those whose points carry what the optimizer does beside a loss."""
    watched = [point for point in points if any(name in point.values for name in _WATCHED.values())]
    losses = [name for point in watched for name in point.values if name.endswith(_LOSS) and name != _HOLDOUT_LOSS]
    return [name.removesuffix(_LOSS) for name in dict.fromkeys(losses)]


def _by_phase(points: Sequence[Point], name: str) -> dict[str, Curve]:
    """The curve of each phase, its steps after those of the phases before it."""
    curves: dict[str, Curve] = {}
    first = 0
    for phase in _phases(points):
        own = [point for point in points if f"{phase}{_LOSS}" in point.values]
        curves[phase] = [(first + step, value) for step, value in _curve(own, name)]
        first += max(point.step for point in own)
    return curves


def _curve(points: Sequence[Point], name: str) -> Curve:
    """Without values that are no number: a step that was skipped has none."""
    return [(p.step, p.values[name]) for p in points if name in p.values and math.isfinite(p.values[name])]


def read_resources(directory: Path) -> Mapping[str, object]:
    """What training took, as the report in `directory` has it; nothing where there is none."""
    path = directory / RESOURCES
    values: dict[str, object] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return values
