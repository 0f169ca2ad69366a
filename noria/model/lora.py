"""Low-rank adaptation: matrices stay as they are, and learn a product of two small ones beside them.

W + (alpha / rank) B A (Hu et al. 2021, arXiv:2106.09685). Shapes: O outputs, I inputs, R rank; a
parameter of shape (N, O, I) is N matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from noria.config import LoraConfig


class LowRank(nn.Module):
    """W -> W + scale B A; it starts as W, since B starts at zero."""

    def __init__(self, weight: Tensor, *, rank: int, alpha: float) -> None:
        super().__init__()
        *stack, num_outputs, num_inputs = weight.shape
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.randn(*stack, rank, num_inputs) / math.sqrt(num_inputs))
        self.up = nn.Parameter(torch.zeros(*stack, num_outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.up @ self.down)


@contextmanager
def low_rank(
    model: nn.Module, matrices: nn.Module, *, head: nn.Module, config: LoraConfig, seed: int
) -> Iterator[None]:
    """Inside the block only low-rank updates of `matrices`, and `head`, learn; behind it they are part of the matrices.

    With a rank of 0, everything learns. An error inside the block leaves the model as it was there.
    """
    if not config.rank:
        yield
        return
    learning = {param: param.requires_grad for param in model.parameters()}
    model.requires_grad_(False)
    head.requires_grad_(True)
    adapted = _adapt(matrices, config, seed=seed)
    yield
    for module, name in adapted:
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    for param in model.parameters():
        param.requires_grad_(learning.get(param, True))


def _adapt(matrices: nn.Module, config: LoraConfig, *, seed: int) -> list[tuple[nn.Module, str]]:
    found = [
        (module, name)
        for module in matrices.modules()
        for name, param in module.named_parameters(recurse=False)
        if param.ndim >= 2
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module, name in found:
            weight = getattr(module, name)
            update = LowRank(weight, rank=config.rank, alpha=config.alpha).to(weight.device)
            parametrize.register_parametrization(module, name, update)
    return found
