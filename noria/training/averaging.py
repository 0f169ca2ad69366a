"""Averaged weights: an exponential average, or the mean over the last steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from noria.config import AverageConfig
from noria.training.distributed import sharded_like


class Average:
    """Follows the trained parameters of a module; a pure function of their values and the steps.

    `ema` is Polyak averaging with decay `d` (as Adam, it starts unbiased: d rises as (1 + t) / (10 + t));
    `tail` is the mean over the last share of the steps (stochastic weight averaging, arXiv:1803.05407),
    which is what averaging checkpoints approximates.
    """

    def __init__(self, config: AverageConfig, module: nn.Module, *, num_steps: int) -> None:
        self._config = config
        self._params = {name: param for name, param in module.named_parameters() if param.requires_grad}
        self._first = 0 if config.kind == "ema" else int((1 - config.tail_share) * num_steps)
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, step: int, *, taken: Tensor | None = None) -> None:
        """Take in the weights after `step` (counted from 0).

        A step that was left out is not to be taken in: where only the device knows, `taken` (a boolean
        scalar there) says so, and nothing waits. An average that begins in such a step begins one step early.
        """
        if self._config.kind == "none" or step < self._first:
            return
        if not self.tensors:
            self.tensors = {name: param.detach().clone() for name, param in self._params.items()}
            return
        age = step - self._first + 1
        weight = 1 - min(self._config.decay, (1 + age) / (10 + age)) if self._config.kind == "ema" else 1 / age
        if taken is None:
            torch._foreach_lerp_(list(self.tensors.values()), list(self._params.values()), weight)
            return
        for name, tensor in self.tensors.items():
            tensor.lerp_(self._params[name], weight * taken)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a saved average."""
        self.tensors = {
            name: sharded_like(tensors[name].to(param.device), param)
            for name, param in self._params.items()
            if name in tensors
        }

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module holds the average inside the block, if there is one."""
        kept = {name: self._params[name].detach().clone() for name in self.tensors}
        self._set(self.tensors)
        try:
            yield
        finally:
            self._set(kept)

    def keep(self) -> None:
        """The module takes the average, if there is one."""
        self._set(self.tensors)

    @torch.no_grad()
    def _set(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            self._params[name].copy_(tensor)
