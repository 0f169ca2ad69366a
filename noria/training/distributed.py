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
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from noria.errors import NoriaError
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
        """Whether this rank writes files and talks, for the ranks of its host: hosts need not share a disk."""
        return self.local_rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the ranks, in place, of a tensor on the device; on a GPU the host goes on at once."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

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
        """The value of the rank on which `age` is highest, where ranks differ: hosts need not share a disk."""
        ages = self.gather(age(value))
        return value if len(set(ages)) == 1 else self.share(value, source=ages.index(max(ages)))

    def align(self, model: nn.Module) -> None:
        """Give what is not sharded of a model the values of the first rank: hosts may round differently."""
        for tensor in model.state_dict().values():
            if self.size > 1 and not isinstance(tensor, DTensor):
                dist.broadcast(tensor, src=0)

    def raise_any(self, error: NoriaError | None) -> None:
        """Wait for all, and raise on every rank what went wrong on any: none waits for one that is gone.

        Raises
        ------
        NoriaError
            The first, by rank.
        """
        for found in self.gather(error):
            if found is not None:
                raise found


def started_by_torchrun() -> bool:
    """Whether this process is a rank."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined(*, cuda: bool) -> Iterator[Ranks]:
    """This process among those that torchrun started, over NCCL or gloo; alone when it started none."""
    if not started_by_torchrun():
        yield Ranks()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if cuda:
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", timeout=_TIMEOUT, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=_TIMEOUT)
    yield Ranks(dist.get_rank(), dist.get_world_size(), local_rank)
    dist.destroy_process_group()  # not behind an error: it would wait for ranks that are gone


class Replica(nn.Module):
    """An objective's loss as a module, which is what DDP can wrap.

    Called with a batch, it returns the summed loss; `last` says that this backward pass is the last of
    a step, when gradients are averaged over the ranks. A backward pass of `sample()`, a batch on
    the device, shows which parameters the objective uses: DDP would wait for the others at every step.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, *, kind: str, ranks: Ranks, sample: Callable[[], Batch]
    ) -> None:
        super().__init__()
        self._model = model
        self._loss: nn.Module = _Loss(model, objective)
        if ranks.size > 1 and kind == "ddp":
            with _only_used(self._loss, sample()):
                self._loss = DistributedDataParallel(self._loss, gradient_as_bucket_view=True)

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


@contextmanager
def _only_used(loss: nn.Module, sample: Batch) -> Iterator[None]:
    """Inside the block, parameters that the loss does not use need no gradient."""
    loss(sample).backward()
    idle = [param for param in loss.parameters() if param.requires_grad and param.grad is None]
    loss.zero_grad(set_to_none=True)
    for param in idle:
        param.requires_grad_(False)
    yield
    for param in idle:
        param.requires_grad_(True)


def shard(model: nn.Module, *, device: torch.device) -> None:
    """Shard the parameters of a model over the ranks, block by block (FSDP2); does nothing the second time.

    A model with ways in other than `forward` names them in `forward_methods`.
    """
    if isinstance(model, FSDPModule):
        return
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in [module for module in model.modules() if isinstance(module, Block)]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
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
