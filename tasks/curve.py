"""Learning curves as an SVG inside Markdown: what the Prefect UI shows while training runs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

Point = tuple[int, Mapping[str, float]]

_WIDTH, _HEIGHT, _GAP, _COLUMNS = 320, 180, 28, 2


def picture(data: bytes, *, media_type: str, title: str) -> str:
    """Markdown that carries a picture in itself: an artifact has no place to put files."""
    return f"![{title}](data:{media_type};base64,{base64.b64encode(data).decode()})"


def draw_curves(points: Sequence[Point]) -> str:
    """Markdown of a picture with one panel a metric, its value over the steps."""
    series: dict[str, list[tuple[int, float]]] = {}
    for step, values in points:
        for name, value in values.items():
            series.setdefault(name, []).append((step, value))
    panels = [_panel(name, curve, index) for index, (name, curve) in enumerate(sorted(series.items()))]
    num_rows = -(-len(panels) // _COLUMNS)
    width = _COLUMNS * (_WIDTH + _GAP) + _GAP
    height = num_rows * (_HEIGHT + 2 * _GAP) + _GAP
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(panels)}</svg>'
    )
    return picture(svg.encode(), media_type="image/svg+xml", title="learning curve")


def _panel(name: str, curve: Sequence[tuple[int, float]], index: int) -> str:
    x0 = _GAP + index % _COLUMNS * (_WIDTH + _GAP)
    y0 = _GAP + index // _COLUMNS * (_HEIGHT + 2 * _GAP)
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    low, high = min(values), max(values)
    step_range, value_range = max(steps[-1] - steps[0], 1), (high - low) or 1.0
    path = " ".join(
        f"{x0 + (step - steps[0]) / step_range * _WIDTH:.1f},{y0 + (high - value) / value_range * _HEIGHT:.1f}"
        for step, value in curve
    )
    return (
        f'<rect x="{x0}" y="{y0}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#ccc"/>'
        f'<polyline points="{path}" fill="none" stroke="#2563eb" stroke-width="1.5"/>'
        f'<text x="{x0}" y="{y0 - 6}">{escape(name)}: {values[-1]:.4g} (from {low:.4g} to {high:.4g})</text>'
        f'<text x="{x0}" y="{y0 + _HEIGHT + 14}" fill="#666">step {steps[0]:,}</text>'
        f'<text x="{x0 + _WIDTH}" y="{y0 + _HEIGHT + 14}" fill="#666" text-anchor="end">{steps[-1]:,}</text>'
    )
