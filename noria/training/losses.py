"""Losses as sums over targets: the loop divides by the number of targets of a whole step.

Shapes: N targets, C classes or outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from noria.config import TrainConfig

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs float32 (N, C), class numbers int64 (N) or values float32 (N, C)) -> a scalar."""


def cross_entropy(logits_NC: Tensor, classes_N: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Sum of cross entropies, `label_smoothing` of the target spread over all classes."""
    return F.cross_entropy(logits_NC, classes_N, reduction="sum", label_smoothing=label_smoothing)


def squared_error(outputs_NC: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows of the mean squared error; class numbers stand for their indicators."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets, outputs_NC.shape[-1]).to(outputs_NC.dtype)
    return (outputs_NC - targets).square().mean(-1).sum()


def build_loss(config: TrainConfig) -> Loss:
    """The loss that the configuration names."""
    if config.loss == "mse":
        return squared_error
    return lambda logits, classes: cross_entropy(logits, classes, label_smoothing=config.label_smoothing)
