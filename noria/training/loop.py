"""The training loop: one phase, from any step to its end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from noria.errors import TrainingError
from noria.events import progress
from noria.model.text_classifier import DeepBranch
from noria.training.objectives import MicroBatch, Objective
from noria.training.optimizers import set_rate
from noria.training.schedules import Schedule
from noria.training.state import TrainingState

logger = logging.getLogger(__name__)

_REPORT_EVERY_STEPS = 20  # the loss comes to the host so often; between, nothing waits for the device


@dataclass(frozen=True)
class Phase:
    """What to learn, for how long, and how.

    `accumulate` micro-batches make a step; the epochs of a phase have `steps_per_epoch` steps.
    """

    name: str
    objective: Objective
    optimizers: tuple[Optimizer, ...]
    schedule: Schedule
    num_steps: int
    steps_per_epoch: int
    accumulate: int
    max_grad_norm: float


@dataclass(frozen=True)
class Hooks:
    """What happens beside the steps.

    Attributes
    ----------
    report:
        (step, mean loss since the last report).
    after_epoch:
        (epochs done, mean loss of the epoch) -> go on?
    save:
        Write the state; called when `save_every_s` seconds have passed since the last time.
    """

    report: Callable[[int, float], None]
    after_epoch: Callable[[int, float], bool]
    save: Callable[[], None]
    save_every_s: float


def run_phase(phase: Phase, state: TrainingState, *, deep: DeepBranch, hooks: Hooks) -> None:
    """Train from `state.step` to the end of the phase, or until `after_epoch` says no.

    Raises
    ------
    TrainingError
        When the loss is no longer a number.
    """
    deep.train()
    saved_at = time.monotonic()
    with progress(phase.name, total=phase.num_steps, unit="steps") as bar:
        bar.advance(state.step)
        while state.step < phase.num_steps:
            first, started = state.step, time.monotonic()
            last = min(_next_report(first, phase.steps_per_epoch), phase.num_steps)
            loss, num_targets, num_tokens = _take_steps(phase, range(first, last), deep=deep, advance=bar.advance)
            mean = finite_loss(loss / num_targets, phase=phase.name, step=last)
            state.step = last
            state.loss_sum += loss
            state.num_targets += num_targets
            bar.advance(0, loss=mean, tokens_per_s=num_tokens / (time.monotonic() - started))
            hooks.report(last, mean)
            if last % phase.steps_per_epoch == 0 or last == phase.num_steps:
                mean = state.loss_sum / state.num_targets
                state.loss_sum, state.num_targets = 0.0, 0
                if not hooks.after_epoch(math.ceil(last / phase.steps_per_epoch), mean):
                    return
                deep.train()
            if time.monotonic() - saved_at > hooks.save_every_s:
                hooks.save()
                saved_at = time.monotonic()


def _next_report(step: int, steps_per_epoch: int) -> int:
    """The next multiple of the report interval, or the epoch's end if that comes first."""
    epoch_end = (step // steps_per_epoch + 1) * steps_per_epoch
    return min((step // _REPORT_EVERY_STEPS + 1) * _REPORT_EVERY_STEPS, epoch_end)


def _take_steps(phase: Phase, steps: range, *, deep: DeepBranch, advance: Callable[[], None]) -> tuple[float, int, int]:
    """Summed loss, number of targets and of tokens of some steps; waits for the device once, at the end."""
    device = next(deep.parameters()).device
    loss = torch.zeros((), dtype=torch.float64, device=device)
    num_targets = num_tokens = 0
    for step in steps:
        first = step * phase.accumulate
        batches = [phase.objective.micro_batch(i).to(device) for i in range(first, first + phase.accumulate)]
        loss += take_step(phase, step, batches, deep=deep)
        num_targets += sum(batch.num_targets for batch in batches)
        num_tokens += sum(batch.num_tokens for batch in batches)
        advance()
    return loss.item(), num_targets, num_tokens


def take_step(phase: Phase, step: int, batches: list[MicroBatch], *, deep: DeepBranch) -> torch.Tensor:
    """One optimizer step; returns the summed loss, on the device.

    The gradient is that of the mean over the targets of all micro-batches together, whatever their
    sizes (huggingface/transformers#35203 is what happens otherwise).
    """
    num_targets = sum(batch.num_targets for batch in batches)
    total = torch.zeros((), dtype=torch.float64, device=batches[0].targets.device)
    for batch in batches:
        loss = phase.objective.loss(deep, batch)
        (loss / num_targets).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(deep.parameters(), phase.max_grad_norm)
    set_rate(phase.optimizers, phase.schedule(step))
    for optimizer in phase.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total


def finite_loss(loss: float, *, phase: str, step: int) -> float:
    """`loss`, if it is a number.

    Raises
    ------
    TrainingError
        When it is none: the rate was too high.
    """
    if math.isfinite(loss):
        return loss
    raise TrainingError(
        f"the loss became {loss}",
        where=f"phase `{phase}`, step {step}",
        expected="a finite number",
        next_step="lower `train.lr` (and `train.pretrain.lr`), or set `train.precision: fp32`",
    )
