"""What a stopped training needs to go on: written now and then, whole or not at all, and checked when read.

One safetensors file a save, with a JSON header and a digest of the tensors in its metadata. Tensors
are copied while training waits (milliseconds) and written while it goes on. The previous save stays
until the next is complete; a damaged file falls back to it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from noria.training.distributed import sharded_like, whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One point of the learning curves."""

    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Choices:
    """What was probed once; a resumed run keeps it, or its weights would differ.

    `parts` is what a batch was cut into on `ranks` ranks: resumed on as many, it is cut no less.
    """

    precision: str
    threads: int
    compiled: bool = False
    parts: int = 1
    ranks: int = 1


@dataclass
class Sums:
    """Loss and targets since something began."""

    loss: float = 0.0
    num_targets: int = 0

    @property
    def mean(self) -> float:
        """Loss per target."""
        return self.loss / max(self.num_targets, 1)


@dataclass
class TrainingState:
    """How far training is. It changes with every step.

    The place in the data and in the schedule is `step`; every random draw is a function of the seed
    and the step. So there is no generator to save, and nothing to skip when training resumes.

    Attributes
    ----------
    phase, step:
        The current phase, and the optimizer steps done in it.
    choices:
        What was probed for the phase.
    since_report, since_epoch:
        Sums since the last point and since the epoch began.
    recent:
        Losses per target of the steps since divergence was last looked for.
    ended:
        Whether the phase has ended before its last step.
    first_loss, lowest_loss:
        Of this phase: what divergence is measured by.
    skipped, skipped_in_a_row:
        Steps left out in this phase, and up to now, for a loss or gradient that was no finite number.
    rollbacks, rate:
        Divergences so far, and the factor of the learning rate after them.
    best_loss, best_epoch, best:
        The lowest hold-out loss, when it was, and the weights there: none before the first, when loss and epoch
        are still those of an earlier phase.
    average:
        Averaged weights.
    history:
        The learning curves so far.
    usage:
        Time, memory and energy spent before this process, of all ranks together.
    ran:
        How the last phase was run: kept with the result, also by a process that only does what follows.
    """

    phase: str
    step: int = 0
    choices: Choices | None = None
    since_report: Sums = field(default_factory=Sums)
    since_epoch: Sums = field(default_factory=Sums)
    recent: list[float] = field(default_factory=list)
    ended: bool = False
    first_loss: float = math.inf
    lowest_loss: float = math.inf
    skipped: int = 0
    skipped_in_a_row: int = 0
    rollbacks: int = 0
    rate: float = 1.0
    best_loss: float = math.inf
    best_epoch: int = 0
    epochs_since_best: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    history: list[Point] = field(default_factory=list)
    usage: Mapping[str, float | None] = field(default_factory=dict)
    ran: Mapping[str, object] = field(default_factory=dict)

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        begun = TrainingState(
            phase=phase,
            history=self.history,
            usage=self.usage,
            best_loss=self.best_loss,
            best_epoch=self.best_epoch,
            ran=self.ran,
        )
        vars(self).update(vars(begun))

    def go_back(self, saved: TrainingState) -> None:
        """To an earlier state of the phase, but for what was probed and for the best epoch since, which stays the best.

        Patience begins anew with a best epoch that the saved state does not know.
        """
        kept = {name: getattr(self, name) for name in ("choices", "best_loss", "best_epoch", "best")}
        if self.best_loss != saved.best_loss:
            kept["epochs_since_best"] = 0
        vars(self).update(vars(saved) | kept)


@dataclass(frozen=True)
class Saved:
    """A state as read: the progress, and tensors by parameter name."""

    state: TrainingState
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Mapping[str, Tensor]]


class StateStore:
    """Saved states in a directory, all of one training: `fingerprint` says which. One rank of a host writes, all read.

    A save that finds no room is a warning, and training goes on: all that it costs is the work since
    the save before, and that only if the process is killed. Whoever must be sure calls `wait`.
    """

    def __init__(self, directory: Path, *, fingerprint: str, writes: bool = True) -> None:
        self._directory = directory
        self._fingerprint = fingerprint
        self._writes = writes
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._sound: Path | None = None  # the last that was read or written

    def save(self, state: TrainingState, *, model: nn.Module, optimizers: Iterable[Optimizer] = ()) -> None:
        """Copy everything now, write it in the background; waits for the save before, and warns if that failed.

        When parameters are sharded, every rank must call it.
        """
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
        for name, values in optimizer_states(model, optimizers).items():
            tensors |= {f"optimizer.{name}:{key}": tensor for key, tensor in values.items()}
        copies = {}
        for name, tensor in tensors.items():
            gathered = whole(tensor.detach())
            if self._writes:
                copies[name] = gathered.to("cpu", copy=True).contiguous()
        if self._writes:
            self.settle()
            self._pending = self._writer.submit(self._write, copies, json.dumps(_plain(state)))

    def wait(self) -> None:
        """Until the last save is on disk.

        Raises
        ------
        OSError
            When it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def settle(self) -> None:
        """Until the last save is on disk, or has failed."""
        try:
            self.wait()
        except OSError as error:
            logger.warning("the state of the training could not be saved, the save before it stays: %s", error)

    def load(self) -> Saved | None:
        """The newest undamaged state of this training, if there is one."""
        self.settle()
        for path in reversed(self._paths()):
            try:
                if (saved := self._read(path)) is not None:
                    self._sound = path
                    return saved
            except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
                logger.warning("%s is damaged (%s): going back to the save before it", path, error)
        return None

    def _write(self, tensors: Mapping[str, Tensor], state: str) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        metadata = {"fingerprint": self._fingerprint, "state": state, "digest": _digest(tensors, state)}
        paths = self._paths()
        number = int(paths[-1].stem.split("-")[1]) + 1 if paths else 0
        target = self._directory / f"state-{number:06d}.safetensors"
        partial = target.with_suffix(".partial")
        try:
            save_file(dict(tensors), partial, metadata=metadata)
            with partial.open("rb") as file:
                os.fsync(file.fileno())  # the name must not arrive before the bytes
        except (SafetensorError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise as_os_error(error, partial) from error
        partial.replace(target)
        previous = self._sound or (paths[-1] if paths else None)
        for old in paths:
            if old != previous:  # the newest may be damaged, or of another training
                old.unlink()
        self._sound = target

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("state-*.safetensors"))

    def _read(self, path: Path) -> Saved | None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["fingerprint"] != self._fingerprint:
                return None
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        if _digest(tensors, metadata["state"]) != metadata["digest"]:
            raise ValueError("its bytes are not those that were written")
        state = _parse(json.loads(metadata["state"]))
        state.best, state.average = _below("best.", tensors), _below("average.", tensors)
        optimizer: dict[str, dict[str, Tensor]] = {}
        for key, tensor in _below("optimizer.", tensors).items():
            name, _, value = key.rpartition(":")
            optimizer.setdefault(name, {})[value] = tensor
        return Saved(state, _below("model.", tensors), optimizer)


def optimizer_states(model: nn.Module, optimizers: Iterable[Optimizer]) -> dict[str, Mapping[str, Tensor]]:
    """What the optimizers remember, by the name of the parameter in `model`."""
    names: dict[Tensor, str] = {param: name for name, param in model.named_parameters()}
    return {names[param]: values for optimizer in optimizers for param, values in optimizer.state.items()}


def restore(model: nn.Module, optimizers: Iterable[Optimizer], saved: Saved) -> None:
    """Put weights and optimizer states back; the settings of the optimizers come from the configuration."""
    load_weights(model, saved.model)
    params = dict(model.named_parameters())
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for param in group["params"]:
                optimizer.state.pop(param, None)
        mine = {param for group in optimizer.param_groups for param in group["params"]}
        for name, values in saved.optimizer.items():
            if (param := params[name]) in mine:
                optimizer.state[param] = {key: _place(tensor, param) for key, tensor in values.items()}


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set parameters and buffers by name, sharded as they are in `model`."""
    targets = model.state_dict()
    for name, tensor in weights.items():
        targets[name].copy_(sharded_like(tensor.to(targets[name].device), targets[name]))


def _place(tensor: Tensor, param: Tensor) -> Tensor:
    """A state of the parameter's shape is placed as the parameter is; a counter stays on its device, or the host."""
    if tensor.shape != param.shape:
        return tensor.to(param.device) if param.is_cuda else tensor.clone()
    return sharded_like(tensor.to(param.device), param).clone()


def _plain(state: TrainingState) -> dict[str, object]:
    values = {name: value for name, value in vars(state).items() if name not in ("best", "average", "history")}
    for name in ("choices", "since_report", "since_epoch"):
        values[name] = None if values[name] is None else asdict(values[name])
    return {**values, "history": [{"step": point.step, "values": dict(point.values)} for point in state.history]}


def _parse(plain: dict[str, Any]) -> TrainingState:
    history = [Point(**point) for point in plain.pop("history")]
    choices = plain.pop("choices")
    plain |= {name: Sums(**plain[name]) for name in ("since_report", "since_epoch")}
    return TrainingState(**plain, history=history, choices=choices and Choices(**choices))


def as_os_error(error: Exception, path: Path) -> OSError:
    """safetensors says the number of a system's error in its words only; a full disk must be known as one."""
    if isinstance(error, OSError):
        return error
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number), str(path))


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    total = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        total.update(f"\0{name} {tensors[name].dtype} {list(tensors[name].shape)}\0".encode())
        total.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
