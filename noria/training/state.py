"""What a killed training needs to go on: written now and then, whole or not at all, and checked when read.

One safetensors file a save, with a JSON header and a digest of the tensors in its metadata. The
previous save stays until the next is complete; a damaged file falls back to it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One point of the learning curves."""

    step: int
    values: Mapping[str, float]


@dataclass
class TrainingState:
    """How far training is. It changes with every step; tensors are compared and saved by name.

    Attributes
    ----------
    phase, step:
        The current phase, and the optimizer steps done in it.
    precision:
        Chosen once: a resumed run keeps it, or its weights would differ.
    loss_sum, num_targets:
        Since the current epoch began.
    best_loss, best_epoch, best:
        The lowest hold-out loss, when it was, and the weights there.
    history:
        The learning curves so far.
    """

    precision: str
    phase: str
    step: int = 0
    loss_sum: float = 0.0
    num_targets: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    epochs_since_best: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[Point] = field(default_factory=list)

    def enter(self, phase: str) -> None:
        """Begin a phase."""
        self.phase, self.step, self.loss_sum, self.num_targets = phase, 0, 0.0, 0


@dataclass(frozen=True)
class Saved:
    """A state as read: the progress, and the tensors of model and optimizers."""

    state: TrainingState
    model: Mapping[str, Tensor]
    optimizers: tuple[Mapping[int, Mapping[str, Tensor]], ...]


class StateStore:
    """Saved states in a directory, all of one training: `fingerprint` says which."""

    def __init__(self, directory: Path, *, fingerprint: str) -> None:
        self._directory = directory
        self._fingerprint = fingerprint

    def save(self, state: TrainingState, *, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Write a new file, then remove all but the newest two."""
        self._directory.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
        for number, optimizer in enumerate(optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{name}": tensor for name, tensor in values.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {
            "fingerprint": self._fingerprint,
            "state": json.dumps(_plain(state)),
            "digest": _digest(tensors),
        }
        paths = self._paths()
        number = int(paths[-1].stem.split("-")[1]) + 1 if paths else 0
        target = self._directory / f"state-{number:06d}.safetensors"
        partial = target.with_suffix(".partial")
        save_file(tensors, partial, metadata=metadata)
        partial.replace(target)
        for old in paths[:-1]:
            old.unlink()

    def load(self) -> Saved | None:
        """The newest undamaged state of this training, if there is one."""
        for path in reversed(self._paths()):
            try:
                return self._read(path)
            except (SafetensorError, ValueError, KeyError, OSError) as error:
                logger.warning("%s is damaged (%s): going back to the save before it", path, error)
        return None

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("state-*.safetensors"))

    def _read(self, path: Path) -> Saved | None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            if metadata["fingerprint"] != self._fingerprint:
                return None
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        if _digest(tensors) != metadata["digest"]:
            raise ValueError("its bytes are not those that were written")
        plain: dict[str, Any] = json.loads(metadata["state"])
        history = [Point(**point) for point in plain.pop("history")]
        state = TrainingState(**plain, history=history, best=_below("best.", tensors))
        return Saved(state, _below("model.", tensors), _optimizer_states(_below("optimizer.", tensors)))


def restore_optimizers(optimizers: Iterable[Optimizer], saved: Iterable[Mapping[int, Mapping[str, Tensor]]]) -> None:
    """Put saved states back; the groups' settings come from the configuration."""
    for optimizer, state in zip(optimizers, saved, strict=False):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _plain(state: TrainingState) -> dict[str, object]:
    values = {name: value for name, value in vars(state).items() if name not in ("best", "history")}
    return {**values, "history": [{"step": point.step, "values": dict(point.values)} for point in state.history]}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer_states(tensors: Mapping[str, Tensor]) -> tuple[Mapping[int, Mapping[str, Tensor]], ...]:
    states: dict[int, dict[int, dict[str, Tensor]]] = {}
    for key, tensor in tensors.items():
        number, index, name = key.split(".")
        states.setdefault(int(number), {}).setdefault(int(index), {})[name] = tensor
    return tuple(states.get(number, {}) for number in range(max(states, default=-1) + 1))
