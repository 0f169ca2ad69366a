"""Percentile bootstrap intervals, and the paired bootstrap of a difference on the same rows.

Efron 1979, "Bootstrap methods: another look at the jackknife"; Koehn 2004, "Statistical
significance tests for machine translation evaluation" for the paired form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from noria.config import EvaluateConfig
from noria.evaluation.judged import Judged
from noria.evaluation.metrics import Metric, value

_CELLS_AT_ONCE = 4_000_000  # 32 MB of weights


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its confidence interval."""

    value: float
    low: float
    high: float

    def points(self) -> str:
        """A difference in percentage points: "+1.2 points (+0.3 to +2.1)"."""
        return f"{100 * self.value:+.2f} points ({100 * self.low:+.2f} to {100 * self.high:+.2f})"


def interval(metric: Metric, judged: Judged, *, config: EvaluateConfig, seed: int) -> Estimate:
    """A metric with its percentile interval, less the bias that resampling adds.

    A resample repeats rows, and a metric like the calibration error takes repeats for unevenness: its
    resamples lie above the value by their mean excess, which is taken off (Efron & Tibshirani 1993, chapter
    10). For means such as the accuracy there is none.
    """
    draws = [metric(judged, weights_RN) for weights_RN in _resamples(judged.num_rows, config.resamples, seed)]
    observed, drawn = value(metric, judged), np.concatenate(draws)
    return _estimate(observed, drawn - (drawn.mean() - observed), config.confidence)


def paired_difference(
    metric: Metric, challenger: Judged, champion: Judged, *, config: EvaluateConfig, seed: int
) -> Estimate:
    """`metric(challenger) - metric(champion)`, both resampled by the same rows.

    What both get right or wrong cancels, so the interval is far narrower than that of two
    independent estimates.
    """
    assert challenger.ids == champion.ids, "a paired test needs the same rows in the same order"
    draws = [
        metric(challenger, weights_RN) - metric(champion, weights_RN)
        for weights_RN in _resamples(challenger.num_rows, config.resamples, seed)
    ]
    observed = value(metric, challenger) - value(metric, champion)
    return _estimate(observed, np.concatenate(draws), config.confidence)


def _resamples(num_rows: int, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each row is drawn: float64 (R, N), a part of the resamples at a time."""
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS_AT_ONCE // num_rows)
    for start in range(0, num_resamples, step):
        num = min(step, num_resamples - start)
        drawn = generator.integers(num_rows, size=(num, num_rows))
        drawn += num_rows * np.arange(num)[:, None]
        yield np.bincount(drawn.ravel(), minlength=num * num_rows).reshape(num, num_rows).astype(np.float64)


def _estimate(observed: float, draws: np.ndarray, confidence: float) -> Estimate:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(observed, float(low), float(high))
