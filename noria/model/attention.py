"""Multi-head attention: softmax(Q K^T / sqrt(d_k)) V (Vaswani et al. 2017, arXiv:1706.03762).

Shapes: B batch, T target length, S source length, H heads, K dimension of a head, D = H * K.
Masks are boolean and True means "attend".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.model.layers import dropout as drop

_HIDDEN = -30_000.0  # far below every score, and representable in bfloat16 and float16
_QUERY_BLOCK = 128


@dataclass(frozen=True)
class Packing:
    """Documents laid end to end in a batch of one row; attention stays inside a document.

    Attributes
    ----------
    offsets:
        int32 (documents + 1): document i is `offsets[i]:offsets[i + 1]`.
    longest:
        Tokens of the longest document, or more.
    width:
        Where it is known that no document goes on behind a multiple of so many tokens: attention without the
        kernel below is then computed so many tokens at a time.
    """

    offsets: Tensor
    longest: int
    width: int | None = None

    def places(self, length: int) -> Tensor:
        """Place of each token in its document, int64 (length)."""
        token = torch.arange(length, device=self.offsets.device)
        return token - self.offsets[self.documents(length)]

    def documents(self, length: int) -> Tensor:
        """Number of each token's document, int64 (length)."""
        token = torch.arange(length, device=self.offsets.device)
        return torch.searchsorted(self.offsets, token, right=True) - 1


Mask = Tensor | Packing | None


class KeysValues(NamedTuple):
    """What one layer's attention reads, (..., H, S, K) each."""

    keys: Tensor
    values: Tensor


def attend(
    q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Mask = None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """Attention of every target position over the source positions that `mask` (broadcast to B H T S) allows.

    With `causal`, position t sees positions up to t only; `dropout` is the share of weights that is
    dropped. PyTorch's fused kernel does it, except where its backward pass on the CPU is slower than
    matrix products written out (docs/log.md).
    """
    if isinstance(mask, Packing):
        return _attend_packed(q_BHTK, k_BHSK, v_BHSK, mask, causal=causal, dropout=dropout)
    on_cpu = q_BHTK.device.type == "cpu" and not torch.compiler.is_exporting()
    if on_cpu and (q_BHTK.requires_grad or q_BHTK.dtype == torch.bfloat16):
        return _attend_written_out(q_BHTK, k_BHSK, v_BHSK, mask, causal=causal, dropout=dropout)
    if causal and mask is not None:
        mask, causal = mask & _past(q_BHTK.shape[2], q_BHTK.device), False
    return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=mask, is_causal=causal, dropout_p=dropout)


def _attend_written_out(
    q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Tensor | None, *, causal: bool, dropout: float
) -> Tensor:
    """Block by block of queries when causal and long: keys behind a block's last query are never touched."""
    length = q_BHTK.shape[2]
    if not causal:
        return _products(q_BHTK, k_BHSK, v_BHSK, mask, dropout)
    past = _past(length, q_BHTK.device)
    seen = past if mask is None else mask & past
    if length <= _QUERY_BLOCK:  # no loop, which a compiler would unroll anew for every length
        return _products(q_BHTK, k_BHSK, v_BHSK, seen, dropout)
    parts = []
    for first in range(0, length, _QUERY_BLOCK):
        last = min(first + _QUERY_BLOCK, length)
        q, k, v = q_BHTK[:, :, first:last], k_BHSK[:, :, :last], v_BHSK[:, :, :last]
        parts.append(_products(q, k, v, seen[..., first:last, :last], dropout))
    return torch.cat(parts, dim=2)


def _products(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    scale = 1 / math.sqrt(q_BHTK.shape[-1])
    if mask is None:
        return drop((q_BHTK * scale @ k_BHSK.mT).softmax(-1), dropout) @ v_BHSK
    heads = q_BHTK.shape[:2]
    hidden = torch.zeros(mask.shape, dtype=q_BHTK.dtype, device=mask.device).masked_fill(~mask, _HIDDEN)
    if hidden.ndim == 4:  # one product over all heads of all rows wants one mask for each
        hidden = hidden.expand(*heads, -1, -1).flatten(0, 1)
    scores_NTS = torch.baddbmm(hidden, q_BHTK.flatten(0, 1), k_BHSK.flatten(0, 1).mT, alpha=scale)
    mixed_NTK = drop(scores_NTS.softmax(-1), dropout) @ v_BHSK.flatten(0, 1)
    return mixed_NTK.view(*heads, *mixed_NTK.shape[1:])


def _attend_packed(
    q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, packing: Packing, *, causal: bool, dropout: float
) -> Tensor:
    """By the kernel for variable lengths on a GPU in half precision; elsewhere by a mask, to the same result.

    That kernel knows no dropout.
    """
    length = q_BHTK.shape[2]
    if q_BHTK.is_cuda and q_BHTK.dtype in (torch.bfloat16, torch.float16) and not dropout:
        from torch.nn.attention.varlen import varlen_attn

        q_NHK, k_NHK, v_NHK = (part[0].transpose(0, 1) for part in (q_BHTK, k_BHSK, v_BHSK))
        window = (-1, 0) if causal else (-1, -1)
        offsets, longest = packing.offsets, packing.longest
        mixed_NHK = varlen_attn(q_NHK, k_NHK, v_NHK, offsets, offsets, longest, longest, window_size=window)
        assert isinstance(mixed_NHK, Tensor)
        return mixed_NHK.transpose(0, 1)[None]
    width = length if packing.width is None else packing.width
    document_RW = packing.documents(length).view(-1, width)
    mask_R1WW = (document_RW[:, :, None] == document_RW[:, None])[:, None]
    shape = (q_BHTK.shape[1], -1, width, q_BHTK.shape[3])
    q, k, v = (part[0].reshape(shape).transpose(0, 1) for part in (q_BHTK, k_BHSK, v_BHSK))
    mixed_RHWK = attend(q, k, v, mask_R1WW, causal=causal, dropout=dropout)
    return mixed_RHWK.transpose(0, 1).flatten(1, 2)[None]


def _past(length: int, device: torch.device) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def rotate(x_BHTK: Tensor, place_T: Tensor | None = None) -> Tensor:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864): place t turns pair i by t * 10000^(-2i/K)."""
    length, dim = x_BHTK.shape[-2:]
    frequency = 10_000.0 ** (-torch.arange(0, dim, 2, device=x_BHTK.device) / dim)
    place_T = torch.arange(length, device=x_BHTK.device) if place_T is None else place_T
    angle_TK = place_T[:, None] * frequency
    cos, sin = angle_TK.cos().to(x_BHTK.dtype), angle_TK.sin().to(x_BHTK.dtype)
    left, right = x_BHTK.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class Attention(nn.Module):
    """Self-attention, or cross-attention when a memory is given.

    The three input projections are one parameter of shape (3, D, D): one matrix product for
    self-attention, and three matrices for an optimizer that treats matrices as such. Heads that were
    taken out (noria/model/pruning.py) leave (3, H * K, D) of it.
    """

    def __init__(
        self, dim: int, num_heads: int, *, gain: float, rotary: bool, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.num_heads = num_heads
        self.rotary = rotary
        self.causal = causal
        self.projections = nn.Parameter(torch.randn(3, dim, dim) / math.sqrt(dim))
        self.output = nn.Parameter(torch.randn(dim, dim) * gain / math.sqrt(dim))

    @property
    def head_dim(self) -> int:
        """Dimension of a head, however many are left."""
        return self.output.shape[1] // self.num_heads

    def forward(self, x_BTD: Tensor, mask: Mask = None, memory_BSD: Tensor | None = None) -> Tensor:
        if memory_BSD is not None:
            return self.read(x_BTD, self.remember(memory_BSD), mask)
        return self.whole(x_BTD, mask)[0]

    def whole(self, x_BTD: Tensor, mask: Mask = None) -> tuple[Tensor, KeysValues]:
        """Self-attention of all positions, and what positions behind them are to read of them."""
        q_BHTK, k_BHSK, v_BHSK = self._project(x_BTD)
        if self.rotary:
            place_T = mask.places(x_BTD.shape[1]) if isinstance(mask, Packing) else None
            q_BHTK, k_BHSK = rotate(q_BHTK, place_T), rotate(k_BHSK, place_T)
        read = KeysValues(k_BHSK, v_BHSK)
        return self._mix(q_BHTK, read, mask, causal=self.causal), read

    def remember(self, memory_BSD: Tensor) -> KeysValues:
        """What cross-attention reads of a memory, (B, H, S, K) each: made once, read at every step."""
        weight_3DD = self.projections.to(memory_BSD.dtype)
        k_BSD, v_BSD = F.linear(memory_BSD, weight_3DD[1:].flatten(0, 1)).chunk(2, dim=-1)
        return KeysValues(self._split(k_BSD), self._split(v_BSD))

    def read(self, x_BTD: Tensor, memory: KeysValues, mask: Mask = None) -> Tensor:
        """Cross-attention over what `remember` made."""
        q_BTD = F.linear(x_BTD, self.projections[0].to(x_BTD.dtype))
        return self._mix(self._split(q_BTD), memory, mask, causal=False)

    def step(self, x_B1D: Tensor, past: KeysValues, place_1: Tensor) -> tuple[Tensor, KeysValues]:
        """Self-attention of one more position, at `place_1` behind the `past`; and the past with it."""
        q_BH1K, k_BH1K, v_BH1K = self._project(x_B1D)
        if self.rotary:
            q_BH1K, k_BH1K = rotate(q_BH1K, place_1), rotate(k_BH1K, place_1)
        past = KeysValues(torch.cat([past.keys, k_BH1K], dim=2), torch.cat([past.values, v_BH1K], dim=2))
        return self._mix(q_BH1K, past, None, causal=False), past

    def _project(self, x_BTD: Tensor) -> list[Tensor]:
        weight_3DD = self.projections.to(x_BTD.dtype)
        return [self._split(part) for part in F.linear(x_BTD, weight_3DD.flatten(0, 1)).chunk(3, dim=-1)]

    def _mix(self, q_BHTK: Tensor, read: KeysValues, mask: Mask, *, causal: bool) -> Tensor:
        dropped = self.dropout if self.training else 0.0
        mixed_BHTK = attend(q_BHTK, read.keys, read.values, mask, causal=causal, dropout=dropped)
        mixed_BTD = mixed_BHTK.transpose(1, 2).flatten(2)
        return F.linear(mixed_BTD, self.output.to(mixed_BTD.dtype))

    def _split(self, x_BTD: Tensor) -> Tensor:
        head_dim = x_BTD.shape[-1] // self.num_heads
        return x_BTD.view(*x_BTD.shape[:2], self.num_heads, head_dim).transpose(1, 2)
