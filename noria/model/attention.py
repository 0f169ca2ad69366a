"""Multi-head attention: softmax(Q K^T / sqrt(d_k)) V (Vaswani et al. 2017, arXiv:1706.03762).

Shapes: B batch, T target length, S source length, H heads, K dimension of a head, D = H * K.
Masks are boolean and True means "attend".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HIDDEN = -30_000.0  # far below every score, and representable in bfloat16 and float16


def attend(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of every target position over the source positions that `mask` (broadcast to B H T S) allows.

    PyTorch's fused kernel does it, except in bfloat16 on the CPU, where that kernel is six times
    slower than the three operations written out (docs/log.md).
    """
    if q_BHTK.dtype == torch.bfloat16 and q_BHTK.device.type == "cpu":
        scores_BHTS = (q_BHTK / math.sqrt(q_BHTK.shape[-1])) @ k_BHSK.mT
        if mask is not None:
            scores_BHTS = scores_BHTS + torch.zeros_like(mask, dtype=scores_BHTS.dtype).masked_fill(~mask, _HIDDEN)
        return scores_BHTS.softmax(-1) @ v_BHSK
    return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=mask)


def rotate(x_BHTK: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864): position t turns pair i by t * 10000^(-2i/K)."""
    length, dim = x_BHTK.shape[-2:]
    frequency = 10_000.0 ** (-torch.arange(0, dim, 2, device=x_BHTK.device) / dim)
    angle_TK = torch.arange(length, device=x_BHTK.device)[:, None] * frequency
    cos, sin = angle_TK.cos().to(x_BHTK.dtype), angle_TK.sin().to(x_BHTK.dtype)
    left, right = x_BHTK.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class Attention(nn.Module):
    """Self-attention, or cross-attention when a memory is given.

    The three input projections are one parameter of shape (3, D, D): one matrix product for
    self-attention, and three matrices for an optimizer that treats matrices as such.
    """

    def __init__(self, dim: int, num_heads: int, *, gain: float, rotary: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.rotary = rotary
        self.projections = nn.Parameter(torch.randn(3, dim, dim) / math.sqrt(dim))
        self.output = nn.Parameter(torch.randn(dim, dim) * gain / math.sqrt(dim))

    def forward(self, x_BTD: Tensor, mask: Tensor | None = None, memory_BSD: Tensor | None = None) -> Tensor:
        weight_3DD = self.projections.to(x_BTD.dtype)
        if memory_BSD is None:
            q_BTD, k_BSD, v_BSD = F.linear(x_BTD, weight_3DD.flatten(0, 1)).chunk(3, dim=-1)
        else:
            q_BTD = F.linear(x_BTD, weight_3DD[0])
            k_BSD, v_BSD = F.linear(memory_BSD, weight_3DD[1:].flatten(0, 1)).chunk(2, dim=-1)
        q_BHTK, k_BHSK, v_BHSK = (self._split(part) for part in (q_BTD, k_BSD, v_BSD))
        if self.rotary and memory_BSD is None:
            q_BHTK, k_BHSK = rotate(q_BHTK), rotate(k_BHSK)
        mixed_BTD = attend(q_BHTK, k_BHSK, v_BHSK, mask).transpose(1, 2).flatten(2)
        return F.linear(mixed_BTD, self.output.to(x_BTD.dtype))

    def _split(self, x_BTD: Tensor) -> Tensor:
        head_dim = x_BTD.shape[-1] // self.num_heads
        return x_BTD.view(*x_BTD.shape[:2], self.num_heads, head_dim).transpose(1, 2)
