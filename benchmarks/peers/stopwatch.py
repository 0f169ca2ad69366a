"""Time and tokens of a training, measured the same way for every contender."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import Tensor, nn

from benchmarks.peers.settings import Record, Settings


class Stopwatch:
    """Counts tokens and seconds of the steps after the warm-up; validation stops the clock.

    Call `start` once, `count` for every batch and `step` after every optimizer step. Counts may be tensors:
    they are read at the end, so that counting does not wait for a GPU.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counted: list[tuple[int | Tensor, int | Tensor]] = []
        self._steps = 0
        self._begin = self._measured_from = self._end = 0.0
        self._curve: list[tuple[float, float]] = []

    def start(self) -> None:
        """The first step begins now."""
        self._begin = _now()

    def count(self, *, real_tokens: int | Tensor, target_tokens: int | Tensor) -> None:
        """A batch goes into the model."""
        self._counted.append((real_tokens, target_tokens))

    def step(self) -> bool:
        """An optimizer step is done; returns whether it is time to validate."""
        self._steps += 1
        if self._steps == self._settings.num_warmup_steps:
            self._measured_from = _now() - self._begin
            self._counted.clear()
        if self.done:
            self._end = _now() - self._begin
        every = self._settings.evaluate_every_steps
        return every > 0 and (self._steps % every == 0 or self.done)

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return self._steps >= self._settings.steps

    @contextmanager
    def validation(self) -> Iterator[list[float]]:
        """The clock stands still inside; the loss appended to the list becomes a point of the curve."""
        stopped, losses = _now(), list[float]()
        yield losses
        self._curve += [(round(stopped - self._begin, 3), loss) for loss in losses]
        self._begin += _now() - stopped

    def record(self, *, peer: str, work: str, model: nn.Module, packages: tuple[str, ...] = ()) -> Record:
        """What was measured; `packages` are named with their versions."""
        real, target = (sum(int(counts[part]) for counts in self._counted) for part in (0, 1))
        return Record(
            peer=peer,
            work=work,
            real_tokens=real,
            target_tokens=target,
            seconds=round(self._end - self._measured_from, 4),
            steps=self._steps - self._settings.num_warmup_steps,
            parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            curve=self._curve,
            settings=dict(vars(self._settings)),
            versions={name: version(name) for name in ("torch", *packages)},
            warmup_seconds=round(self._measured_from, 4),
        )


def _now() -> float:
    """Seconds, when the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
