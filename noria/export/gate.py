"""The parity gate: what a form of the model loses against PyTorch on the rows that judge, overall and by slice.

docs/decisions/0016-what-an-interval-decides.md says why the two are judged differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from noria.config import EvaluateConfig, OptimizeConfig
from noria.evaluation.bootstrap import Estimate, paired_difference
from noria.evaluation.judged import Judged
from noria.evaluation.metrics import Metric, main_metric, value
from noria.scenarios.base import Tensors


@dataclass(frozen=True)
class Loss:
    """What a form loses of the main metric, and what of that is too much.

    Attributes
    ----------
    metric:
        The main metric of its answers.
    drop:
        How much less that is than the reference's, with the paired interval.
    worst_slice, slice_drop:
        The judged slice that loses most, and how much; ("", 0) without any.
    faults:
        In words; none for a form that passed.
    """

    metric: float
    drop: Estimate
    worst_slice: str
    slice_drop: Estimate
    faults: tuple[str, ...]


def loss_of(
    reference: Judged,
    found: Judged,
    outputs: Sequence[Tensors],
    *,
    config: OptimizeConfig,
    evaluate: EvaluateConfig,
    seed: int,
) -> Loss:
    """Judge the answers of a form by those of the reference on the same rows."""
    _, metric = main_metric(reference)
    drop = paired_difference(metric, reference, found, config=evaluate, seed=seed)
    faults = []
    if not all(np.isfinite(array).all() for output in outputs for array in output.values()):
        faults.append("answers with what is no number")
    if not drop.value <= config.max_quality_drop:
        noise = "" if drop.low > 0 else f", which {found.num_rows:,} rows can't tell from none"
        faults.append(f"loses {drop.points()}{noise}; {100 * config.max_quality_drop:.2f} are allowed")
    slices = _slice_drops(metric, reference, found, min_rows=evaluate.min_slice_rows)
    worst = max(slices, key=lambda name: slices[name], default="")
    slice_drop = Estimate(0.0, 0.0, 0.0)
    for name in sorted(slices, key=lambda name: -slices[name]):
        if name != worst and slices[name] <= config.max_slice_drop:
            break
        member = reference.slices[name]
        estimate = paired_difference(metric, reference.where(member), found.where(member), config=evaluate, seed=seed)
        slice_drop = estimate if name == worst else slice_drop
        if estimate.value > config.max_slice_drop and estimate.low > 0:
            faults.append(f"loses {estimate.points()} on `{name}`; {100 * config.max_slice_drop:.2f} are allowed")
    return Loss(value(metric, found), drop, worst, slice_drop, tuple(faults))


def _slice_drops(metric: Metric, reference: Judged, found: Judged, *, min_rows: int) -> dict[str, float]:
    """By slice that is large enough to be judged."""
    return {
        name: value(metric, reference.where(member)) - value(metric, found.where(member))
        for name, member in reference.slices.items()
        if member.sum() >= min_rows
    }
