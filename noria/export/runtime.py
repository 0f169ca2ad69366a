"""Encoder and decoder with ONNX Runtime's own operators for attention: one node, rotation and past included.

The exporter writes ten to thirty nodes for it. At one token a row a node costs more than its arithmetic, so that
this is most of the speed of a generator (docs/log.md). The operators are called by name: a rewriter of exported
graphs knows the patterns of other models, and says nothing when it finds none. A sum and its normalization stay
two nodes: SkipLayerNormalization takes six times as long as both.

Shapes: B batch, K beams, N = B * K, T length, P past positions, S source, L places, H heads, E dimension of a head,
D model dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.onnx.ops import symbolic, symbolic_multi_out

from noria.model.attention import Attention, KeysValues
from noria.model.transformer import Block, Decoder, Encoder, ReadsMemory

_DOMAIN = "com.microsoft::"
_TURNED_AT_ONCE = 16
Model = TypeVar("Model")
Turns = tuple[Tensor, ...]
"""Cosines and sines, float32 (L, E / 2) each, of rotary positions; () where there are none."""
Mix = Callable[[int, Block, Tensor], Tensor]
"""(number of the block, block, normalized input) -> what attention makes of it."""


def for_runtime(model: Model, *, packs: bool = False) -> Model:
    """A copy whose encoders and decoders are of these operators: it can be exported, and does not run in PyTorch.

    `packs` has encoders leave padding out.
    """
    model = copy.deepcopy(model)
    assert isinstance(model, nn.Module)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Decoder | Encoder) and _fits(child):
                made = RuntimeDecoder(child) if isinstance(child, Decoder) else RuntimeEncoder(child, packs=packs)
                setattr(module, name, made)
    return model


def angles(num_places: int, dim: int) -> Turns:
    """Those of `noria.model.attention.rotate`, for heads of dimension `dim`."""
    frequency = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angle_LE = torch.arange(num_places)[:, None] * frequency
    return angle_LE.cos(), angle_LE.sin()


def _fits(stack: Decoder | Encoder) -> bool:
    """Whether these operators take its heads: they turn 16 numbers at once."""
    attention = _blocks(stack)[0].attention
    return not attention.rotary or attention.head_dim % _TURNED_AT_ONCE == 0


class RuntimeEncoder(nn.Module):
    """An `Encoder` of the same weights.

    One that packs computes what is position by position of the R real ones alone; only attention sees the batch. It
    pays where rows come as they are (of a batch a third is padding) and costs a few nodes where they are alike.
    """

    def __init__(self, encoder: Encoder, *, packs: bool) -> None:
        super().__init__()
        self.blocks = encoder.blocks
        self.norm = encoder.norm
        self.packs = packs

    def forward(self, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
        turns = _turns(self, x_BTD.shape[1])
        packed, padded = _packing(real_BT) if self.packs else (_as_it_is, _as_it_is)
        real_BT = real_BT.to(torch.int32)

        def mix(_: int, block: Block, normed: Tensor) -> Tensor:
            attention = block.attention
            q_BTD, k_BTD, v_BTD = padded(linear(normed, attention.projections.flatten(0, 1))).chunk(3, dim=-1)
            if turns:
                q_BTD, k_BTD = (_rotated(part, turns, num_heads=attention.num_heads) for part in (q_BTD, k_BTD))
            mixed_BTD = _attended(attention, q_BTD, KeysValues(k_BTD, v_BTD), real_BT)
            return linear(packed(mixed_BTD), attention.output)

        return padded(_through(self, packed(x_BTD), mix))


class RuntimeDecoder(ReadsMemory):
    """A `Decoder` of the same weights; steps at rotary positions read `turns`, which are to be set before."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.blocks = decoder.blocks
        self.norm = decoder.norm
        self.is_rotary = _blocks(self)[0].attention.rotary
        self.turns: Turns = ()

    def forward(self, x_BTD: Tensor, packing: None = None) -> Tensor:
        return self._from_the_first(x_BTD)[0]

    def whole(self, x_BTD: Tensor) -> list[KeysValues]:
        """What positions behind these are to read of them."""
        return self._from_the_first(x_BTD)[1]

    def step(
        self,
        x_BKD: Tensor,
        past: Sequence[KeysValues],
        place_1: Tensor,
        memory: Sequence[KeysValues] = (),
        memory_real_BS: Tensor | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """The vectors of one more position, which stands at `place_1`, and the past of each layer with it."""
        num_beams, now = x_BKD.shape[1], list(past)
        place_1 = place_1.to(torch.int32)
        places = (place_1.expand(past[0].keys.shape[0]), place_1 + 1)
        real_BS = None if memory_real_BS is None else memory_real_BS.to(torch.int32)

        def mix(number: int, block: Block, normed_BKD: Tensor) -> Tensor:
            # Without beams rows are what beams are otherwise, and no tensor changes its shape.
            normed_N1D = normed_BKD if num_beams == 1 else normed_BKD.flatten(0, 1)[:, None]
            mixed_N1D, now[number] = _causal(block.attention, normed_N1D, past[number], places, self.turns)
            return mixed_N1D if num_beams == 1 else mixed_N1D.view(normed_BKD.shape)

        def read(number: int, block: Block, normed_BKD: Tensor) -> Tensor:
            assert block.cross_attention is not None
            q_BKD = linear(normed_BKD, block.cross_attention.projections[0])
            mixed_BKD = _attended(block.cross_attention, q_BKD, memory[number], real_BS)
            return linear(mixed_BKD, block.cross_attention.output)

        return _through(self, x_BKD, mix, read), now

    def _from_the_first(self, x_BTD: Tensor) -> tuple[Tensor, list[KeysValues]]:
        length, now = x_BTD.shape[1], []
        turns = _turns(self, length)
        last_1 = torch.full((1,), length - 1, dtype=torch.int32)
        places = (last_1.expand(x_BTD.shape[0]), last_1 + 1)

        def mix(_: int, block: Block, normed_BTD: Tensor) -> Tensor:
            mixed_BTD, read = _causal(block.attention, normed_BTD, None, places, turns)
            now.append(read)
            return mixed_BTD

        return _through(self, x_BTD, mix), now


def _packing(real_BT: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """From (B, T, D) to the real positions of all rows as one, (1, R, D), and back, with anything for padding.

    The first of a row counts as real: of none there is no product. Without the axis of one the exporter would make a
    Gemm of each product, which nobody quantizes.
    """
    batch, length = real_BT.shape
    is_there_N = (real_BT | (torch.arange(length) == 0)).flatten()
    place_R = is_there_N.nonzero()[:, 0]
    number_N = is_there_N.long().cumsum(0) - 1

    def packed(x_BTD: Tensor) -> Tensor:
        return x_BTD.view(1, -1, x_BTD.shape[2]).index_select(1, place_R)

    def padded(x_1RD: Tensor) -> Tensor:
        return x_1RD.index_select(1, number_N).view(batch, length, x_1RD.shape[2])

    return packed, padded


def _as_it_is(x_BTD: Tensor) -> Tensor:
    return x_BTD


def _through(stack: nn.Module, x_BTD: Tensor, mix: Mix, read: Mix | None = None) -> Tensor:
    """All blocks and the last norm."""
    for number, block in enumerate(_blocks(stack)):
        x_BTD = x_BTD + mix(number, block, block.attention_norm(x_BTD))
        if block.cross_norm is not None and read is not None:
            x_BTD = x_BTD + read(number, block, block.cross_norm(x_BTD))
        x_BTD = x_BTD + block.feed_forward(block.feed_forward_norm(x_BTD))
    return cast("Tensor", cast("nn.Module", stack.norm)(x_BTD))


def _blocks(stack: nn.Module) -> list[Block]:
    return [cast("Block", block) for block in cast("nn.ModuleList", stack.blocks)]


def _turns(stack: nn.Module, num_places: int) -> Turns:
    attention = _blocks(stack)[0].attention
    return angles(num_places, attention.head_dim) if attention.rotary else ()


def _causal(
    attention: Attention, x_NTD: Tensor, past: KeysValues | None, places: tuple[Tensor, Tensor], turns: Turns
) -> tuple[Tensor, KeysValues]:
    """Causal self-attention, and the past with it; `places` are int32: the last of each row (N), their number (1)."""
    num, length, _ = x_NTD.shape
    heads, dim = attention.num_heads, attention.head_dim
    all_places = length if past is None else length + past.keys.shape[2]
    mixed_NTD, keys, values = symbolic_multi_out(
        f"{_DOMAIN}GroupQueryAttention",
        (linear(x_NTD, attention.projections.flatten(0, 1)), None, None, *(past or (None, None)), *places, *turns),
        {"num_heads": heads, "kv_num_heads": heads, "do_rotary": int(attention.rotary)},
        dtypes=[x_NTD.dtype] * 3,
        shapes=[(num, length, heads * dim), *[(num, heads, all_places, dim)] * 2],
        version=1,
    )
    return linear(mixed_NTD, attention.output), KeysValues(keys, values)


def _attended(attention: Attention, q_BTD: Tensor, read: KeysValues, real_BS: Tensor | None) -> Tensor:
    """Attention over all real positions; keys and values (B, S, D), or (B, H, S, E) as they were remembered."""
    return symbolic(
        f"{_DOMAIN}MultiHeadAttention",
        (q_BTD, *read, None, real_BS),
        {"num_heads": attention.num_heads},
        dtype=q_BTD.dtype,
        shape=q_BTD.shape,
        version=1,
    )


def _rotated(x_BTD: Tensor, turns: Turns, *, num_heads: int) -> Tensor:
    return symbolic(
        f"{_DOMAIN}RotaryEmbedding",
        (x_BTD, torch.zeros(1, dtype=torch.int64), *turns),
        {"num_heads": num_heads},
        dtype=x_BTD.dtype,
        shape=x_BTD.shape,
        version=1,
    )
