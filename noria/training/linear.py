"""Fits the wide branch: L2-regularized multinomial logistic regression, to its optimum, by L-BFGS.

Shapes: N rows, W features (0 is padding and never occurs), C classes.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from noria.data.ragged import Ragged
from noria.model.wide import WideBranch

logger = logging.getLogger(__name__)

_MAX_ITERATIONS = 300
_TOLERANCE = 1e-4  # of the largest gradient entry, the loss being a mean over rows times C


def fit_wide(
    branch: WideBranch,
    ids: Ragged,
    values: Ragged,
    classes: NDArray[np.int64],
    *,
    inverse_regularization: float,
) -> float:
    """Set the weights of `branch` to the optimum; return the mean loss there.

    Minimizes C * sum of cross entropies + a/2 |W|², a = K / (K - 1) for K classes: for two classes
    that is binary logistic regression with the usual C. The bias is not regularized. Deterministic.
    """
    features_NW, features_WN = _sparse(ids, values, num_features=len(branch.weight))
    targets_N = torch.from_numpy(classes)
    num_rows, num_classes = len(classes), branch.weight.shape[1]
    penalty = num_classes / (num_classes - 1) / (2 * inverse_regularization * num_rows)
    weight_WC = torch.zeros_like(branch.weight, requires_grad=True)
    bias_C = torch.zeros_like(branch.bias, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight_WC, bias_C],
        max_iter=_MAX_ITERATIONS,
        tolerance_grad=_TOLERANCE / num_rows,
        tolerance_change=1e-12,
        history_size=10,
        line_search_fn="strong_wolfe",
    )
    losses: list[float] = []

    def closure() -> float:
        with torch.no_grad():
            logits_NC = features_NW @ weight_WC + bias_C
            loss = F.cross_entropy(logits_NC, targets_N)
            residual_NC = (logits_NC.softmax(-1) - F.one_hot(targets_N, num_classes)) / num_rows
            weight_WC.grad = features_WN @ residual_NC + 2 * penalty * weight_WC
            bias_C.grad = residual_NC.sum(0)
            losses.append(float(loss))
            return float(loss + penalty * weight_WC.square().sum())

    solver.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        branch.weight.copy_(weight_WC)
        branch.bias.copy_(bias_C)
    logger.info("wide branch: %d n-grams, %d evaluations, loss %.4f", len(weight_WC) - 1, len(losses), losses[-1])
    return losses[-1]


def _sparse(ids: Ragged, values: Ragged, *, num_features: int) -> tuple[Tensor, Tensor]:
    """The feature matrix (N, W) and its transpose, in compressed rows both."""
    columns = torch.from_numpy(np.array(ids.values, dtype=np.int64))
    entries = torch.from_numpy(np.array(values.values, dtype=np.float32))
    num_rows = len(ids)
    row_of = torch.from_numpy(np.repeat(np.arange(num_rows), ids.lengths))
    order = torch.argsort(columns, stable=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(columns, minlength=num_features).cumsum(0)])
    rows_first = torch.sparse_csr_tensor(
        torch.from_numpy(ids.offsets), columns, entries, size=(num_rows, num_features), check_invariants=False
    )
    features_first = torch.sparse_csr_tensor(
        starts, row_of[order], entries[order], size=(num_features, num_rows), check_invariants=False
    )
    return rows_first, features_first
