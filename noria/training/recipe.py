"""What a scenario's training consists of: fits in closed form, and phases of gradient steps, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from noria.training.batch import Batch
from noria.training.losses import Said


class Objective(Protocol):
    """What is learned from which batch. Batches are pure functions of their index: training resumes anywhere."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def batch(self, index: int) -> Batch:
        """The batch at `index`, counted from the start of the phase."""
        ...

    def largest(self) -> Batch:
        """A batch that needs as much memory as any."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Float32 scalar: the sum over the targets of the batch."""
        ...


@runtime_checkable
class Distillable(Objective, Protocol):
    """An objective whose loss is a function of distributions, in which another model can be followed."""

    def said(self, model: nn.Module, batch: Batch) -> Said:
        """What the model says of the targets of the batch."""
        ...

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        ...


@dataclass(frozen=True)
class Fit:
    """A part of the training that is done at once.

    `run` returns what is worth a point on the learning curves.
    """

    name: str
    run: Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Phase:
    """A part of the training that takes gradient steps.

    Attributes
    ----------
    model:
        What learns; parameters are float32, and `compute_dtype` is the precision of its activations.
    matrices:
        The part of `model` whose matrices Muon takes, and low-rank adaptation too.
    head:
        What low-rank adaptation leaves to learn as it is.
    lr, muon_lr, schedule, epochs:
        As in `params.yaml`.
    flops_per_token:
        Forward and backward, of a real token; 0 where nobody counted. For the share of a GPU's peak.
    judge:
        Hold-out metrics after each epoch, `holdout_loss` among them: the epoch with the lowest is
        kept. Without it, the last weights are.
    """

    name: str
    objective: Objective
    model: nn.Module
    matrices: nn.Module
    head: nn.Module
    epochs: float
    lr: float
    muon_lr: float
    schedule: str
    flops_per_token: float = 0.0
    judge: Callable[[], Mapping[str, float]] | None = None


Recipe = Sequence[Fit | Phase]
