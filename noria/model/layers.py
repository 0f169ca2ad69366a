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
    rectified = F.relu(x)
    return rectified * rectified  # exported, a square is a power, which takes ten times as long


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


def dropout(x: Tensor, share: float) -> Tensor:
    """Zero each value with probability `share`, and scale the others to the same mean (Srivastava et al. 2014).

    On the CPU the share is rounded to 1/256, and a random byte decides a value: an eighth of the time
    that PyTorch's own generator takes (docs/log.md).
    """
    if share == 0.0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, share)
    out: Tensor = _Dropout.apply(x, min(max(round(share * 256), 1), 255))  # type: ignore[no-untyped-call]
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, num_dropped: int) -> Tensor:  # noqa: ANN401 - autograd's own context
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        byte = words.view(torch.uint8)[: x.numel()].view(x.shape)
        factor = torch.ge(byte, num_dropped, out=torch.empty(x.shape, dtype=x.dtype))
        factor.mul_(256 / (256 - num_dropped))
        ctx.save_for_backward(factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        factor: Tensor = ctx.saved_tensors[0]
        return grad * factor, None


class FeedForward(nn.Module):
    """Two linear maps with a squared ReLU between them (So et al. 2021, arXiv:2109.08668)."""

    def __init__(self, dim: int, hidden_dim: int, *, gain: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.up = Linear(dim, hidden_dim)
        self.down = Linear(hidden_dim, dim, gain=gain)

    def forward(self, x_D: Tensor) -> Tensor:
        h_F = dropout(squared_relu(self.up(x_D)), self.dropout if self.training else 0.0)
        out: Tensor = self.down(h_F)
        return out
