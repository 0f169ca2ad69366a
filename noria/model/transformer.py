"""The Transformer core: pre-norm blocks as encoder, decoder, or both.

Shapes: B batch, T target length, S source length, D model dimension; when generating, K beams, P past
positions, H heads and E dimension of a head.
Masks are boolean and True means "attend"; a padding mask has shape (B, T) and True at real positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from noria.config import ModelConfig
from noria.model.attention import Attention, KeysValues, Mask, Packing
from noria.model.layers import FeedForward, LayerNorm, dropout


class Block(nn.Module):
    """x + attention(norm(x)), then cross-attention where there is a memory, then the feed-forward.

    Pre-norm (Xiong et al. 2020, arXiv:2002.04745). The maps that write into the residual stream
    start smaller the deeper the stack, so that its variance stays put (Radford et al. 2019, GPT-2).
    With `recompute`, activations are computed again in the backward pass instead of being kept
    (Chen et al. 2016, arXiv:1604.06174). While training, a share of the attention weights, of the
    hidden layer and of what each sublayer adds is dropped (Vaswani et al. 2017, 5.4).
    """

    def __init__(self, config: ModelConfig, *, causal: bool = False, cross: bool = False) -> None:
        super().__init__()
        self.recompute = False
        self.dropout = config.dropout
        gain = 0.5 / math.sqrt(config.layers)
        rotary = config.positions == "rotary"
        self.attention_norm = LayerNorm(config.dim)
        self.attention = Attention(
            config.dim, config.heads, gain=gain, rotary=rotary, causal=causal, dropout=config.dropout
        )
        self.cross_norm = LayerNorm(config.dim) if cross else None
        self.cross_attention = (
            Attention(config.dim, config.heads, gain=gain, rotary=False, dropout=config.dropout) if cross else None
        )
        self.feed_forward_norm = LayerNorm(config.dim)
        self.feed_forward = FeedForward(config.dim, config.feed_forward_dim, gain=gain, dropout=config.dropout)

    def forward(
        self, x_BTD: Tensor, mask: Mask, memory_BSD: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._compute, x_BTD, mask, memory_BSD, memory_mask, use_reentrant=False)
            return out
        return self._compute(x_BTD, mask, memory_BSD, memory_mask)

    def _compute(self, x_BTD: Tensor, mask: Mask, memory_BSD: Tensor | None, memory_mask: Tensor | None) -> Tensor:
        dropped = self.dropout if self.training else 0.0
        x_BTD = x_BTD + dropout(self.attention(self.attention_norm(x_BTD), mask), dropped)
        if self.cross_norm is not None and self.cross_attention is not None:
            assert memory_BSD is not None, "a block with cross-attention needs a memory"
            x_BTD = x_BTD + dropout(self.cross_attention(self.cross_norm(x_BTD), memory_mask, memory_BSD), dropped)
        out: Tensor = x_BTD + dropout(self.feed_forward(self.feed_forward_norm(x_BTD)), dropped)
        return out

    def whole(self, x_BTD: Tensor) -> tuple[Tensor, KeysValues]:
        """All positions from the first on, without dropout; and what positions behind them are to read of them."""
        mixed_BTD, read = self.attention.whole(self.attention_norm(x_BTD))
        x_BTD = x_BTD + mixed_BTD
        return x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD)), read

    def step(
        self,
        x_BKD: Tensor,
        past: KeysValues,
        place_1: Tensor,
        memory: KeysValues | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """One more position of every beam: its vectors, and the past (B * K, H, P, E) with it.

        The beams of a row read one memory, so they are to cross-attention what positions are.
        """
        mixed_N1D, past = self.attention.step(self.attention_norm(x_BKD).flatten(0, 1)[:, None], past, place_1)
        x_BKD = x_BKD + mixed_N1D.view(x_BKD.shape)
        if self.cross_norm is not None and self.cross_attention is not None:
            assert memory is not None, "a block with cross-attention needs a memory"
            x_BKD = x_BKD + self.cross_attention.read(self.cross_norm(x_BKD), memory, memory_mask)
        x_BKD = x_BKD + self.feed_forward(self.feed_forward_norm(x_BKD))
        return x_BKD, past


class Encoder(nn.Module):
    """Every real position sees every real position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = LayerNorm(config.dim)

    def forward(self, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
        mask_B11T = real_BT[:, None, None, :]
        for block in self.blocks:
            x_BTD = block(x_BTD, mask_B11T)
        out: Tensor = self.norm(x_BTD)
        return out


class ReadsMemory(nn.Module):
    """Blocks of which some may attend to a memory."""

    blocks: nn.ModuleList

    def remember(self, memory_BSD: Tensor) -> list[KeysValues]:
        """What the cross-attention of each layer reads of a memory."""
        crossing = (cast("Block", block).cross_attention for block in self.blocks)
        return [cross.remember(memory_BSD) for cross in crossing if cross is not None]


class Decoder(ReadsMemory):
    """Every position sees itself and those before it, and the memory if there is one.

    Padding stands behind the real positions, so that none of them sees any.
    """

    def __init__(self, config: ModelConfig, *, cross: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, causal=True, cross=cross) for _ in range(config.layers))
        self.norm = LayerNorm(config.dim)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor | None = None,
        memory_real_BS: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        memory_mask = None if memory_real_BS is None else memory_real_BS[:, None, None, :]
        for block in self.blocks:
            x_BTD = block(x_BTD, packing, memory_BSD, memory_mask)
        out: Tensor = self.norm(x_BTD)
        return out

    def whole(self, x_BTD: Tensor) -> list[KeysValues]:
        """What positions behind these are to read of them, (B, H, T, E) of each layer; there is no memory then."""
        layers = []
        for block in self.blocks:
            x_BTD, read = cast("Block", block).whole(x_BTD)
            layers.append(read)
        return layers

    def empty_past(self, num_rows: int, *, like: Tensor) -> list[KeysValues]:
        """Keys and values (N, H, 0, E) of each layer, which may have other heads left than its neighbours."""
        attentions = (cast("Block", block).attention for block in self.blocks)
        shapes = [(num_rows, attention.num_heads, 0, attention.head_dim) for attention in attentions]
        return [KeysValues(like.new_empty(shape), like.new_empty(shape)) for shape in shapes]

    def step(
        self,
        x_BKD: Tensor,
        past: Sequence[KeysValues],
        place_1: Tensor,
        memory: Sequence[KeysValues] = (),
        memory_real_BS: Tensor | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """The vectors of one more position, which stands at `place_1`, and the past of each layer with it."""
        memory_mask = None if memory_real_BS is None else memory_real_BS[:, None, None, :]
        now = []
        for number, block in enumerate(self.blocks):
            read = memory[number] if memory else None
            x_BKD, layer = cast("Block", block).step(x_BKD, past[number], place_1, read, memory_mask)
            now.append(layer)
        out: Tensor = self.norm(x_BKD)
        return out, now


class EncoderDecoder(nn.Module):
    """A decoder that reads the encoder's output."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, cross=True)

    def forward(self, source_BSD: Tensor, source_real_BS: Tensor, target_BTD: Tensor) -> Tensor:
        memory_BSD = self.encoder(source_BSD, source_real_BS)
        out: Tensor = self.decoder(target_BTD, memory_BSD, source_real_BS)
        return out
