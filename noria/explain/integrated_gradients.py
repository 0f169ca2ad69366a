"""What each position of an input adds to a score.

Shapes: P points on the path, T positions, D dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_NUM_POINTS = 32


def integrated_gradients(
    score: Callable[[Tensor], Tensor], x_TD: Tensor, baseline_TD: Tensor, *, num_points: int = _NUM_POINTS
) -> Tensor:
    """Contributions (T), which add up to score(x) - score(baseline).

    Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365): the gradient is integrated
    along the straight line from the baseline to the input. Unlike gradient times input, which sees
    one point only, nothing of the score is lost or made up. Gauss-Legendre quadrature needs few points.

    Parameters
    ----------
    score:
        (P, T, D) -> (P), one score per input.
    """
    nodes, weights = np.polynomial.legendre.leggauss(num_points)  # on [-1, 1]
    at_P = torch.from_numpy((nodes + 1) / 2).float()
    weight_P = torch.from_numpy(weights / 2).float()
    step_TD = (x_TD - baseline_TD).detach()
    path_PTD = (baseline_TD.detach() + at_P[:, None, None] * step_TD).requires_grad_()
    (gradient_PTD,) = torch.autograd.grad(score(path_PTD).sum(), path_PTD)
    return (step_TD * (weight_P[:, None, None] * gradient_PTD).sum(0)).sum(-1)
