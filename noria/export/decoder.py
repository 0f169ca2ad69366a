"""A decoder's step in ONNX Runtime's own operators: attention, cross-attention, and a sum with its normalization.

Each is one node for what the exporter writes in ten to thirty. At one token a row a node costs more than
its arithmetic, so that this is most of the speed (docs/log.md). The operators are called by name: a rewriter
of exported graphs knows the patterns of other models, and says nothing when it finds none.

Shapes: B batch, K beams, N = B * K, P past positions, S source, L places, H heads, E dimension of a head, D model
dimension, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic, symbolic_multi_out

from noria.model.attention import Attention, KeysValues
from noria.model.generation import IMPOSSIBLE, PADDING, Vocabulary
from noria.model.heads import TiedHead
from noria.model.layers import LayerNorm
from noria.model.transformer import Block, Decoder

_DOMAIN = "com.microsoft::"
_EPSILON = 1e-5
_TURNED_AT_ONCE = 16
Model = TypeVar("Model", bound=nn.Module)


def for_runtime(model: Model, *, vocabulary: Vocabulary) -> Model:
    """A copy whose decoders take their steps by these operators, and whose bias hides tokens that are never one.

    It can be exported, and does not run in PyTorch.
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Decoder) and fits(child):
                setattr(module, name, RuntimeDecoder(child))
            elif isinstance(child, TiedHead):
                with torch.no_grad():
                    child.bias[[PADDING, *vocabulary.never]] = IMPOSSIBLE
    return model


def fits(decoder: Decoder) -> bool:
    """Whether these operators take its heads: they turn 16 numbers at once."""
    attention = cast("Block", decoder.blocks[0]).attention
    return not attention.rotary or attention.output.shape[0] // attention.num_heads % _TURNED_AT_ONCE == 0


class RuntimeDecoder(nn.Module):
    """The step of a `Decoder` of the same weights; rotary positions need `angles` before it."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.blocks = decoder.blocks
        self.norm = decoder.norm
        self.is_rotary = any(cast("Block", block).attention.rotary for block in self.blocks)
        self.angles: tuple[Tensor, ...] = ()

    def step(
        self,
        x_BKD: Tensor,
        past: Sequence[KeysValues],
        place_1: Tensor,
        memory: Sequence[KeysValues] = (),
        memory_real_BS: Tensor | None = None,
    ) -> tuple[Tensor, list[KeysValues]]:
        """The vectors of one more position, which stands at `place_1`, and the past of each layer with it."""
        blocks = [cast("Block", block) for block in self.blocks]
        norms = [*(block.attention_norm for block in blocks[1:]), self.norm]
        normed_BKD, now = blocks[0].attention_norm(x_BKD), []
        # Without beams rows are what beams are otherwise, and no tensor changes its shape.
        places = (place_1.to(torch.int32).expand(past[0].keys.shape[0]), (place_1 + 1).to(torch.int32))
        real_BS = None if memory_real_BS is None else memory_real_BS.to(torch.int32)
        for number, (block, next_norm) in enumerate(zip(blocks, norms, strict=True)):
            mixed_BKD, layer = self._attend(block.attention, normed_BKD, past[number], places)
            now.append(layer)
            if block.cross_norm is not None and block.cross_attention is not None:
                x_BKD, normed_BKD = _add_and_norm(x_BKD, mixed_BKD, block.cross_norm)
                mixed_BKD = _read(block.cross_attention, normed_BKD, memory[number], real_BS)
            x_BKD, normed_BKD = _add_and_norm(x_BKD, mixed_BKD, block.feed_forward_norm)
            x_BKD, normed_BKD = _add_and_norm(x_BKD, block.feed_forward(normed_BKD), next_norm)
        return normed_BKD, now

    def _attend(
        self, attention: Attention, x_BKD: Tensor, past: KeysValues, places: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, KeysValues]:
        """Self-attention of one position, and the past with it; rotation, concatenation and all in one node."""
        x_N1D = x_BKD if x_BKD.shape[1] == 1 else x_BKD.flatten(0, 1)[:, None]
        qkv_N1C = nn.functional.linear(x_N1D, attention.projections.flatten(0, 1))
        num, heads, length, dim = past.keys.shape
        longer = (num, heads, length + 1, dim)
        mixed_N1D, keys, values = symbolic_multi_out(
            f"{_DOMAIN}GroupQueryAttention",
            (qkv_N1C, None, None, *past, *places, *self.angles),
            {"num_heads": heads, "kv_num_heads": heads, "do_rotary": int(attention.rotary)},
            dtypes=[x_N1D.dtype] * 3,
            shapes=[x_N1D.shape, longer, longer],
            version=1,
        )
        mixed_BKD = nn.functional.linear(mixed_N1D, attention.output)
        return mixed_BKD if x_BKD.shape[1] == 1 else mixed_BKD.view(x_BKD.shape), KeysValues(keys, values)


def angles(num_places: int, dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines float32 (L, E / 2) of `noria.model.attention.rotate`, for places up to `num_places`."""
    frequency = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)
    angle_LE = torch.arange(num_places)[:, None] * frequency
    return angle_LE.cos(), angle_LE.sin()


def _read(attention: Attention, x_BKD: Tensor, memory: KeysValues, real_BS: Tensor | None) -> Tensor:
    """Cross-attention: the beams of a row are its positions."""
    q_BKD = nn.functional.linear(x_BKD, attention.projections[0])
    mixed_BKD = symbolic(
        f"{_DOMAIN}MultiHeadAttention",
        (q_BKD, *memory, None, real_BS),
        {"num_heads": attention.num_heads},
        dtype=x_BKD.dtype,
        shape=x_BKD.shape,
        version=1,
    )
    return nn.functional.linear(mixed_BKD, attention.output)


def _add_and_norm(x_BKD: Tensor, added_BKD: Tensor, norm: LayerNorm) -> tuple[Tensor, Tensor]:
    """The sum, and the sum normalized."""
    outputs = symbolic_multi_out(
        f"{_DOMAIN}SkipLayerNormalization",
        (x_BKD, added_BKD, norm.weight),
        {"epsilon": _EPSILON},
        dtypes=[x_BKD.dtype, torch.float32, torch.float32, x_BKD.dtype],
        shapes=[x_BKD.shape, (*x_BKD.shape[:2], 1), (*x_BKD.shape[:2], 1), x_BKD.shape],
        version=1,
    )
    return outputs[3], outputs[0]
