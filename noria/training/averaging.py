"""Averaged weights: an exponential average, or the mean over the last steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from noria.config import AverageConfig
from noria.training.distributed import sharded_like

_NUM_TAKEN = "num_taken:"  # among tensors by name; no parameter has a colon in its name


class Average:
    """Follows the trained parameters of a module; a pure function of their values and the steps.

    `ema` is Polyak averaging with decay `d` (as Adam, it starts unbiased: d rises as (1 + t) / (10 + t));
    `tail` is the mean over the last share of the steps (stochastic weight averaging, arXiv:1803.05407),
    which is what averaging checkpoints approximates.
    """

    def __init__(self, config: AverageConfig, module: nn.Module, *, num_steps: int) -> None:
        self._config = config
        self._module = module
        self._params = {name: param for name, param in module.named_parameters() if param.requires_grad}
        self._first = 0 if config.kind == "ema" else int((1 - config.tail_share) * num_steps)
        self._num_taken = _count(0.0, like=self._params)
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, step: int, *, taken: Tensor | None = None) -> None:
        """Take in the weights after `step` (counted from 0).

        A step that was left out is not to be taken in, nor counted: where only the device knows, `taken`
        (a boolean scalar there) says so, and nothing waits.
        """
        if self._config.kind == "none" or step < self._first:
            return
        if not self.tensors:
            self.tensors = {name: param.detach().clone() for name, param in self._params.items()}
        age = self._num_taken + 1
        self._num_taken = age if taken is None else self._num_taken + taken
        weight = self._weight(age) if taken is None else self._weight(age) * taken
        for name, tensor in self.tensors.items():
            tensor.lerp_(self._params[name], weight.to(tensor.dtype))

    def _weight(self, age: Tensor) -> Tensor:
        """Of the newest weights, the `age`-th that are taken in: 1 for the first."""
        if self._config.kind == "tail":
            return 1 / age
        return torch.where(age == 1, 1.0, 1 - ((1 + age) / (10 + age)).clamp(max=self._config.decay))

    @property
    def saved(self) -> dict[str, Tensor]:
        """What `load` goes on from; empty before the average begins."""
        return {**self.tensors, _NUM_TAKEN: self._num_taken} if self.tensors else {}

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from a saved average."""
        self._num_taken = _count(float(saved.get(_NUM_TAKEN, 0.0)), like=self._params)
        self.tensors = {
            name: sharded_like(saved[name].to(param.device), param)
            for name, param in self._params.items()
            if name in saved
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
        if isinstance(self._module, FSDPModule):
            self._module.reshard()  # or the next pass takes what a judge's pass has gathered


def _count(value: float, *, like: Mapping[str, Tensor]) -> Tensor:
    """A counter where the parameters are: on a GPU nothing waits for it. Float64 is exact, and so are the weights."""
    device = next((param.device for param in like.values()), None)
    return torch.full((), value, dtype=torch.float64, device=device)
