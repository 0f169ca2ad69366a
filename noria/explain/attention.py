"""Attention maps of any module, recomputed beside it: the forward path, and its kernel, stay as they are.

Fused kernels never hold the weights. So hooks keep what each `Attention` was given, and its
projections are applied once more.

Shapes: B batch, T target length, S source length, H heads, K dimension of a head, D = H * K.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.model.attention import Attention, Mask, Packing, rotate


def attention_maps(model: nn.Module, run: Callable[[], object]) -> list[Tensor]:
    """Weights (B, H, T, S) of every `Attention` in `model`, in the order in which `run` calls them."""
    maps: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[object, ...], named: dict[str, object], out: Tensor) -> None:
        assert isinstance(module, Attention)
        x_BTD, mask, memory_BSD = _inputs(module, given, named)
        weight_BHTS, value_BHSK = weights_and_values(module, x_BTD, mask, memory_BSD)
        mixed_BTD = (weight_BHTS @ value_BHSK).transpose(1, 2).flatten(2)
        again_BTD = F.linear(mixed_BTD, module.output.float())
        tolerance = 1e-3 if out.dtype == torch.float32 else 0.1
        assert torch.allclose(again_BTD, out.float(), atol=tolerance, rtol=tolerance), "not the module's attention"
        maps.append(weight_BHTS)

    hooks = [m.register_forward_hook(keep, with_kwargs=True) for m in model.modules() if isinstance(m, Attention)]
    try:
        with torch.inference_mode():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def weights_and_values(
    module: Attention, x_BTD: Tensor, mask: Mask = None, memory_BSD: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(K)) of shape (B, H, T, S), and the values (B, H, S, K) that it mixes, in float32.

    `mask` is boolean, broadcast to (B, H, T, S), and True means "attend"; or it says which documents lie end to end.
    """
    source_BSD = x_BTD if memory_BSD is None else memory_BSD
    weight_3DD = module.projections.float()
    q_BHTK, k_BHSK, v_BHSK = (
        _heads(F.linear(given.float(), weight_DD), module.num_heads)
        for given, weight_DD in zip((x_BTD, source_BSD, source_BSD), weight_3DD, strict=True)
    )
    length = x_BTD.shape[1]
    if module.rotary and memory_BSD is None:
        place_T = mask.places(length) if isinstance(mask, Packing) else None
        q_BHTK, k_BHSK = rotate(q_BHTK, place_T), rotate(k_BHSK, place_T)
    score_BHTS = q_BHTK @ k_BHSK.mT / math.sqrt(q_BHTK.shape[-1])
    if isinstance(mask, Packing):
        document_T = mask.documents(length)
        mask = document_T[:, None] == document_T
    if mask is not None:
        score_BHTS = score_BHTS.masked_fill(~mask, -math.inf)
    if module.causal:
        future_TS = torch.ones(score_BHTS.shape[-2:], dtype=torch.bool, device=score_BHTS.device).triu(1)
        score_BHTS = score_BHTS.masked_fill(future_TS, -math.inf)
    return score_BHTS.softmax(-1), v_BHSK


def rollout(maps: Sequence[Tensor]) -> Tensor:
    """How much of every input position reaches every position of the last layer, (T, T); rows add up to 1.

    Attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928): heads are averaged, and half of every
    layer passes by its attention, through the residual stream. A picture of the flow, and no proof:
    it knows neither values nor feed-forwards.

    Parameters
    ----------
    maps:
        Weights (H, T, T) of each layer of self-attention, first layer first.
    """
    same_TT = torch.eye(maps[0].shape[-1])
    reach_TT = same_TT
    for map_HTT in maps:
        reach_TT = (0.5 * map_HTT.mean(0) + 0.5 * same_TT) @ reach_TT
    return reach_TT


def _inputs(
    module: Attention, given: tuple[object, ...], named: dict[str, object]
) -> tuple[Tensor, Mask, Tensor | None]:
    bound = inspect.signature(module.forward).bind(*given, **named)
    bound.apply_defaults()
    x_BTD, mask, memory_BSD = (bound.arguments[name] for name in ("x_BTD", "mask", "memory_BSD"))
    assert isinstance(x_BTD, Tensor)
    return x_BTD, mask, memory_BSD


def _heads(x_BTD: Tensor, num_heads: int) -> Tensor:
    return x_BTD.view(*x_BTD.shape[:2], num_heads, -1).transpose(1, 2)
