"""Layers whose float32 parameters follow the dtype of what flows through them.

Activations choose the precision (bfloat16 or float32); parameters, gradients and optimizer states
stay float32. That is all that autocast would do here, without its bookkeeping per operation.

Shapes: D model dimension, F feed-forward dimension, O output dimension.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """x W^T (+ b), with W drawn from N(0, gain² / inputs)."""

    def __init__(self, num_inputs: int, num_outputs: int, *, gain: float = 1.0, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_outputs, num_inputs) * gain / math.sqrt(num_inputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.Module):
    """Layer normalization with a gain and no bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x_D: Tensor) -> Tensor:
        return F.layer_norm(x_D, (x_D.shape[-1],), self.weight.to(x_D.dtype))


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)²; where it is differentiated, in half of the passes over memory that two operations take."""
    if x.requires_grad and not torch.compiler.is_compiling():
        out: Tensor = _SquaredRelu.apply(x)  # type: ignore[no-untyped-call]
        return out
    return F.relu(x).square()


class _SquaredRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own context
        rectified = F.relu(x)
        ctx.save_for_backward(rectified)
        return rectified * rectified

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ANN401
        rectified: Tensor = ctx.saved_tensors[0]
        return (grad * rectified).mul_(2)  # where x < 0, so is the saved factor 0


class FeedForward(nn.Module):
    """Two linear maps with a squared ReLU between them (So et al. 2021, arXiv:2109.08668)."""

    def __init__(self, dim: int, hidden_dim: int, *, gain: float) -> None:
        super().__init__()
        self.up = Linear(dim, hidden_dim)
        self.down = Linear(hidden_dim, dim, gain=gain)

    def forward(self, x_D: Tensor) -> Tensor:
        h_F = squared_relu(self.up(x_D))
        out: Tensor = self.down(h_F)
        return out
