"""One training on several processes: torchrun starts them, DDP or FSDP2 keeps their parameters together.

A step is the same whatever the number of ranks: its batches are cut into parts, dealt out in turn,
and the gradient is the sum over all parts divided by the targets of all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from noria.model.transformer import Block
from noria.training.batch import Batch
from noria.training.recipe import Objective

_TIMEOUT = timedelta(minutes=10)
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Where this process stands among those of its training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    @property
    def leads_host(self) -> bool:
        """Whether this rank prepares what the ranks of its host share."""
        return self.local_rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=_transport())
        dist.all_reduce(sums)
        return [float(value) for value in sums.tolist()]

    def any(self, value: bool) -> bool:
        """Whether it is so on any rank."""
        return self.total([float(value)])[0] > 0

    def share(self, value: T, *, source: int = 0) -> T:
        """The value of one rank, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=source, device=_transport())
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def newest(self, value: T, *, age: Callable[[T], tuple[int, ...]]) -> T:
        """The value of the rank on which `age` is highest: hosts need not share a disk."""
        if self.size == 1:
            return value
        ages = self.gather(age(value))
        return self.share(value, source=ages.index(max(ages)))

    def barrier(self) -> None:
        """Wait for all."""
        if self.size > 1:
            dist.barrier()


def started_by_torchrun() -> bool:
    """Whether this process is a rank."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined() -> Iterator[Ranks]:
    """This process among those that torchrun started; alone when it started none."""
    if not started_by_torchrun():
        yield Ranks()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local_rank)
    finally:
        dist.destroy_process_group()


class Replica(nn.Module):
    """An objective's loss as a module, which is what DDP can wrap; parameters that it does not use stay out.

    Called with a batch, it returns the summed loss; `last` says that this backward pass is the last of
    a step, when gradients are averaged over the ranks.
    """

    def __init__(self, model: nn.Module, objective: Objective, *, kind: str, ranks: Ranks) -> None:
        super().__init__()
        self._model = model
        self._loss: nn.Module = _Loss(model, objective)
        if ranks.size > 1 and kind == "ddp":
            self._loss = DistributedDataParallel(self._loss, find_unused_parameters=True, broadcast_buffers=False)

    def forward(self, batch: Batch, *, last: bool = True) -> Tensor:
        if isinstance(self._model, FSDPModule):
            self._model.set_requires_gradient_sync(last)
        if isinstance(self._loss, DistributedDataParallel) and not last:
            waiting: AbstractContextManager[None] = self._loss.no_sync()
        else:
            waiting = nullcontext()
        with waiting:
            out: Tensor = self._loss(batch)
            return out


class _Loss(nn.Module):
    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> Tensor:
        return self._objective.loss(self.model, batch)


def shard(model: nn.Module) -> None:
    """Shard the parameters of a model over the ranks, block by block (FSDP2); does nothing the second time.

    A model with ways in other than `forward` names them in `forward_methods`.
    """
    if isinstance(model, FSDPModule):
        return
    for block in [module for module in model.modules() if isinstance(module, Block)]:
        fully_shard(block)
    fully_shard(model)
    for name in getattr(model, "forward_methods", ()):
        register_fsdp_forward_method(model, name)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor, gathered (every rank must call it); another as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, target: Tensor) -> Tensor:
    """This rank's share of `tensor`, which all ranks hold whole, if `target` is sharded."""
    if not isinstance(target, DTensor):
        return tensor
    return distribute_tensor(tensor, target.device_mesh, target.placements, src_data_rank=None)


def _transport() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
