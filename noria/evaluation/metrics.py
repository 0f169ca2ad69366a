"""Metrics as functions of row weights, so that one definition serves the whole, a slice and every resample.

Shape suffixes: R sets of weights, N rows, C classes, K bins. `weights_RN` says how often each row
counts: all ones for the plain metric, resample counts for a bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from noria.evaluation.judged import Judged

Metric = Callable[["Judged", np.ndarray], np.ndarray]
"""(judged, weights_RN) -> float64 (R,)."""

CALIBRATION_BINS = 15
_SMALLEST_PROBABILITY = 1e-12


def accuracy(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of rows whose most probable class is the right one."""
    return _mean(judged.predicted == judged.targets, weights_RN)


def macro_f1(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Unweighted mean over classes of 2 TP / (predicted + actual), over the classes that occur."""
    actual_NC = _one_hot(judged.targets, len(judged.labels))
    predicted_NC = _one_hot(judged.predicted, len(judged.labels))
    hits_RC = weights_RN @ (actual_NC * predicted_NC)
    total_RC = weights_RN @ (actual_NC + predicted_NC)
    f1_RC = 2 * hits_RC / np.maximum(total_RC, 1)
    return np.asarray(f1_RC.sum(axis=1) / np.maximum((total_RC > 0).sum(axis=1), 1))


def log_loss(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Mean negative log probability of the right class, in nats."""
    right_N = judged.outputs[np.arange(judged.num_rows), judged.targets]
    return _mean(-np.log(np.maximum(right_N, _SMALLEST_PROBABILITY)), weights_RN)


def calibration_error(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Expected calibration error of the top class over equal-width bins (Guo et al. 2017, arXiv:1706.04599)."""
    confidence_N = judged.outputs.max(axis=1)
    gap_N = confidence_N - (judged.predicted == judged.targets)
    bins_NK = _one_hot(confidence_bins(confidence_N), CALIBRATION_BINS)
    gap_RK = weights_RN @ (bins_NK * gap_N[:, None])
    return np.asarray(np.abs(gap_RK).sum(axis=1) / weights_RN.sum(axis=1))


def mean_squared_error(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Mean squared difference, in squared units of the target."""
    return _mean((judged.outputs - judged.targets) ** 2, weights_RN)


def mean_absolute_error(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Mean absolute difference, in units of the target."""
    return _mean(np.abs(judged.outputs - judged.targets), weights_RN)


def r2(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of the target's variance that is explained; 0 is what predicting the mean gets."""
    mean_R = _mean(judged.targets, weights_RN)
    centred_N = judged.targets - judged.targets.mean()  # before squaring: no cancellation
    variance_R = _mean(centred_N**2, weights_RN) - (mean_R - judged.targets.mean()) ** 2
    return np.asarray(1 - mean_squared_error(judged, weights_RN) / np.maximum(variance_R, _SMALLEST_PROBABILITY))


CLASSIFICATION: Mapping[str, Metric] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}
REGRESSION: Mapping[str, Metric] = {"r2": r2, "mse": mean_squared_error, "mae": mean_absolute_error}


def main_metric(judged: Judged) -> tuple[str, Metric]:
    """Name and function of the metric that decides."""
    return next(iter(judged.metrics.items()))


def value(metric: Metric, judged: Judged) -> float:
    """The metric over all rows."""
    return float(metric(judged, np.ones((1, judged.num_rows)))[0])


@dataclass(frozen=True)
class ClassScore:
    """How one class fares."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


def confusion(judged: Judged) -> np.ndarray:
    """int64 (C, C) counts: actual class by predicted class."""
    num_classes = len(judged.labels)
    cells = judged.targets * num_classes + judged.predicted
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(judged: Judged) -> list[ClassScore]:
    """Precision, recall and F1 of each class; 0 where nothing was predicted or nothing is there."""
    counts = confusion(judged)
    hits, actual, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return [
        ClassScore(
            label=label,
            rows=int(actual[i]),
            precision=float(hits[i] / max(predicted[i], 1)),
            recall=float(hits[i] / max(actual[i], 1)),
            f1=float(2 * hits[i] / max(predicted[i] + actual[i], 1)),
        )
        for i, label in enumerate(judged.labels)
    ]


def confidence_bins(confidence_N: np.ndarray) -> np.ndarray:
    """int64 (N,): which of the equal-width bins each confidence falls into."""
    return np.minimum((confidence_N * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def _mean(values_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    return np.asarray(weights_RN @ values_N.astype(np.float64) / weights_RN.sum(axis=1))


def _one_hot(indices_N: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(np.equal(indices_N[:, None], np.arange(size)), dtype=np.float64)
