"""Structured pruning: heads and feed-forward units are taken out, and what is left is smaller matrices, no masks.

How much a head or a unit matters is told to first order by the gradient of the loss by a gate on it, which stands at 1:
|dL / dg| (Michel et al. 2019, arXiv:1905.10650, 4.1; Molchanov et al. 2019, arXiv:1906.10771). What a gate scales goes
through one matrix alone, so that dL / dg is the sum of weight * gradient over that head's or unit's columns: nothing
in the model has to be changed to measure it.

Shapes: D model dimension, H heads, K dimension of a head, F feed-forward units.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from noria.model.attention import Attention
from noria.model.layers import FeedForward
from noria.model.transformer import Decoder, Encoder

Scores = Mapping[str, Tensor]
"""Name of a module -> how much each of its heads, or of its units, matters."""
UNITS_AT_ONCE = 8
"""A feed-forward layer keeps a multiple of so many units: kernels compute them together."""


def gate_slopes(model: nn.Module) -> tuple[Scores, Scores]:
    """|dL / dg| of every head (H) and of every unit (F), from the gradients that a backward pass has left."""
    heads, units = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, Attention) and module.output.grad is not None:
            slope_DHK = _by_head(module.output.detach() * module.output.grad, module.num_heads)
            heads[name] = slope_DHK.sum((0, 2)).abs()
        elif isinstance(module, FeedForward) and module.down.weight.grad is not None:
            units[name] = (module.down.weight.detach() * module.down.weight.grad).sum(0).abs()
    return heads, units


def kept(scores: Scores, share: float, *, at_once: int = 1) -> dict[str, Tensor]:
    """Numbers, in order, of what stays when `share` of all is taken out, the least important of all modules first.

    Scores are of unit length in each module, without which one layer would be emptied (Michel et al. 2019, 4.1).
    Every module keeps a multiple of `at_once`, rounded up, and so at least one.
    """
    if not scores:
        return {}
    scaled = {name: score / score.norm().clamp_min(torch.finfo(score.dtype).tiny) for name, score in scores.items()}
    order = torch.cat(list(scaled.values())).argsort(stable=True)
    stays = torch.ones(len(order), dtype=torch.bool)
    stays[order[: int(share * len(order))]] = False
    left = {}
    parts = torch.split(stays, [len(score) for score in scaled.values()])
    for (name, score), part in zip(scaled.items(), parts, strict=True):
        count = min(len(score), at_once * max(1, math.ceil(int(part.sum()) / at_once)))
        left[name] = score.argsort(descending=True, stable=True)[:count].sort().values
    return left


def pruned(model: nn.Module, *, heads: Mapping[str, Tensor], units: Mapping[str, Tensor]) -> nn.Module:
    """A copy that has, of the modules named, these heads and units alone."""
    smaller = copy.deepcopy(model)
    for name, numbers in heads.items():
        _keep_heads(smaller.get_submodule(name), numbers)
    for name, numbers in units.items():
        _keep_units(smaller.get_submodule(name), numbers)
    return smaller


def shallower(model: nn.Module, num_layers: int) -> nn.Module:
    """A copy whose stacks have `num_layers` of their blocks each, evenly spaced (Sanh et al. 2019, arXiv:1910.01108).

    Of twelve, six are 0, 2, 4, 7, 9 and 11, as there. Frontends, heads and norms are the model's own.
    """
    smaller = copy.deepcopy(model)
    for stack in _stacks(smaller):
        stack.blocks = nn.ModuleList(stack.blocks[number] for number in layers_taken(len(stack.blocks), num_layers))
    return smaller


def layers_taken(num_layers: int, num_taken: int) -> list[int]:
    """Evenly spaced from the first on; with the last, where there is more than one."""
    return [int(number) for number in np.linspace(0, num_layers - 1, num_taken).round()]


def num_parameters(model: nn.Module) -> int:
    return sum(param.numel() for param in model.parameters())


def num_layers(model: nn.Module) -> int:
    """Blocks of the deepest stack; 0 without any."""
    return max((len(stack.blocks) for stack in _stacks(model)), default=0)


def _stacks(model: nn.Module) -> Iterator[Encoder | Decoder]:
    return (module for module in model.modules() if isinstance(module, Encoder | Decoder))


def _keep_heads(attention: nn.Module, numbers: Tensor) -> None:
    assert isinstance(attention, Attention)
    projections_3HKD = attention.projections.detach().view(3, attention.num_heads, attention.head_dim, -1)
    output_DHK = _by_head(attention.output.detach(), attention.num_heads)
    attention.projections = nn.Parameter(projections_3HKD[:, numbers].flatten(1, 2))
    attention.output = nn.Parameter(output_DHK[:, numbers].flatten(1))
    attention.num_heads = len(numbers)


def _by_head(output: Tensor, num_heads: int) -> Tensor:
    """(D, H * K) as (D, H, K)."""
    return output.view(len(output), num_heads, -1)


def _keep_units(feed_forward: nn.Module, numbers: Tensor) -> None:
    assert isinstance(feed_forward, FeedForward)
    up, down = feed_forward.up, feed_forward.down
    up.weight = nn.Parameter(up.weight.detach()[numbers])
    down.weight = nn.Parameter(down.weight.detach()[:, numbers].contiguous())
