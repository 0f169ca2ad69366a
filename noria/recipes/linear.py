"""Fits the wide branch: L2-regularized multinomial logistic regressions, to their optimum, by L-BFGS.

Shapes: N rows, W features (0 is padding and never occurs), C classes.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from noria.data.ragged import Ragged
from noria.model.wide import WideBranch

logger = logging.getLogger(__name__)

_MAX_ITERATIONS = 200
_TOLERANCE = 1e-3  # of the largest entry of the gradient, the loss being a sum over rows


@dataclass(frozen=True)
class Linear:
    """Weights float32 (W, C) and bias (C)."""

    weight: Tensor
    bias: Tensor


def fit_wide(
    branch: WideBranch, ids: Ragged, values: Ragged, classes: NDArray[np.int64], *, inverse_regularization: float
) -> None:
    """Set the class ratios and both linear models of `branch`."""
    num_features, num_classes = branch.plain_weight.shape
    ratio_W = class_ratios(ids, classes, num_features=num_features, num_classes=num_classes)
    plain = np.asarray(values.values, dtype=np.float32)
    rated = plain * ratio_W[ids.values]
    row_of = np.repeat(np.arange(len(ids)), ids.lengths)
    lengths = np.sqrt(np.bincount(row_of, weights=rated.astype(np.float64) ** 2, minlength=len(ids)))
    rated = (rated / np.maximum(lengths, 1e-6)[row_of]).astype(np.float32)
    first, second = (
        fit_logistic(
            ids,
            entries,
            classes,
            num_features=num_features,
            num_classes=num_classes,
            inverse_regularization=inverse_regularization,
        )
        for entries in (plain, rated)
    )
    with torch.no_grad():
        branch.ratio.copy_(torch.from_numpy(ratio_W))
        branch.plain_weight.copy_(first.weight)
        branch.rated_weight.copy_(second.weight)
        branch.bias.copy_((first.bias + second.bias) / 2)


def class_ratios(
    ids: Ragged, classes: NDArray[np.int64], *, num_features: int, num_classes: int
) -> NDArray[np.float32]:
    """How differently the classes use each feature, float32 (W).

    The spread over classes of the logarithm of the feature's smoothed share of a class; for two
    classes that is half the absolute log-count ratio. Its sign is left to the linear model.
    """
    cells = np.asarray(ids.values, dtype=np.int64) * num_classes + np.repeat(classes, ids.lengths)
    counts = np.bincount(cells, minlength=num_features * num_classes).reshape(num_features, num_classes) + 1.0
    spread = np.log(counts / counts.sum(0)).std(1)
    spread[0] = 0.0
    return np.asarray(spread, dtype=np.float32)


def fit_logistic(
    ids: Ragged,
    entries: NDArray[np.float32],
    classes: NDArray[np.int64],
    *,
    num_features: int,
    num_classes: int,
    inverse_regularization: float,
) -> Linear:
    """The optimum of C * sum of cross entropies + a/2 |W|², a = K / (K - 1) for K classes.

    For two classes that is binary logistic regression with the usual C. The bias is not
    regularized. Deterministic for a given number of threads.
    """
    features_NW, features_WN = _sparse(ids, entries, num_features=num_features)
    targets_N = torch.from_numpy(classes)
    penalty = num_classes / (num_classes - 1) / (2 * inverse_regularization * len(classes))
    weight_WC = torch.zeros(num_features, num_classes, requires_grad=True)
    bias_C = torch.zeros(num_classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight_WC, bias_C],
        max_iter=_MAX_ITERATIONS,
        tolerance_grad=_TOLERANCE / len(classes),
        tolerance_change=1e-12,
        history_size=10,
        line_search_fn="strong_wolfe",
    )
    losses: list[float] = []

    def closure() -> float:
        with torch.no_grad():
            logits_NC = features_NW @ weight_WC + bias_C
            losses.append(float(F.cross_entropy(logits_NC, targets_N)))
            residual_NC = (logits_NC.softmax(-1) - F.one_hot(targets_N, num_classes)) / len(classes)
            weight_WC.grad = features_WN @ residual_NC + 2 * penalty * weight_WC
            bias_C.grad = residual_NC.sum(0)
            return losses[-1] + float(penalty * weight_WC.square().sum())

    solver.step(closure)  # type: ignore[no-untyped-call]
    logger.info("linear model: %d n-grams, %d evaluations, loss %.4f", num_features - 1, len(losses), losses[-1])
    return Linear(weight_WC.detach(), bias_C.detach())


def _sparse(ids: Ragged, entries: NDArray[np.float32], *, num_features: int) -> tuple[Tensor, Tensor]:
    """The feature matrix (N, W) and its transpose, in compressed rows both."""
    columns = torch.from_numpy(np.array(ids.values, dtype=np.int64))
    values = torch.from_numpy(entries)
    row_of = torch.from_numpy(np.repeat(np.arange(len(ids)), ids.lengths))
    order = torch.argsort(columns, stable=True)
    starts = F.pad(torch.bincount(columns, minlength=num_features).cumsum(0), (1, 0))
    shape = (len(ids), num_features)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        by_row = torch.sparse_csr_tensor(torch.from_numpy(ids.offsets), columns, values, shape, check_invariants=True)
        by_feature = torch.sparse_csr_tensor(starts, row_of[order], values[order], shape[::-1], check_invariants=True)
    return by_row, by_feature
