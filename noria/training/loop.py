"""The training loop: one phase, from any step to its end.

Nothing in it waits for the device between two points of the learning curves (or for some seconds,
where steps are long), and every batch and random draw is a function of (seed, step). Garbage is
collected then, and not in between.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from noria.events import Progress, progress
from noria.training.averaging import Average
from noria.training.batch import Batch
from noria.training.distributed import Ranks, Replica, whole
from noria.training.guards import Diverged, Guard, Interruption
from noria.training.optimizers import rates, set_rate, skip_where
from noria.training.recipe import Phase
from noria.training.schedules import Schedule
from noria.training.state import Sums, TrainingState

logger = logging.getLogger(__name__)

REPORT_EVERY_STEPS = 20  # the losses come to the host so often
_LOOK_EVERY_S = 5.0  # whether to save, and whether any rank was told to end, where steps are long
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Run:
    """A phase, ready to run on this device and rank.

    Attributes
    ----------
    num_steps:
        Optimizer steps; `accumulate` batches make one, which may be of two epochs.
    parts:
        Each batch is computed in so many passes (memory, or ranks).
    """

    phase: Phase
    replica: Replica
    optimizers: tuple[Optimizer, ...]
    schedule: Schedule
    average: Average
    guard: Guard
    ranks: Ranks
    device: torch.device
    num_steps: int
    accumulate: int
    parts: int
    max_grad_norm: float
    seed: int

    def epochs_done(self, step: int) -> int:
        """Whole passes over the batches after so many steps."""
        return step * self.accumulate // len(self.phase.objective)

    def epoch_end(self, step: int) -> int:
        """The step after which the epoch that `step` is in ends."""
        return math.ceil((self.epochs_done(step) + 1) * len(self.phase.objective) / self.accumulate)


@dataclass(frozen=True)
class Hooks:
    """What happens beside the steps.

    Attributes
    ----------
    report:
        One point of the learning curves: (step, values).
    after_epoch:
        (epochs done, mean loss of the epoch) -> go on?
    save:
        Write the state; called when `save_every_s` seconds have passed and all is well, and when the
        process is told to end, unless training is diverging: that is no state to go back to.
    saved:
        Wait until it is on disk; an error if it can't be.
    roll_back:
        Set state, weights and optimizers back to the last save, at a lower rate.
    """

    report: Callable[[int, Mapping[str, float]], None]
    after_epoch: Callable[[int, float], bool]
    save: Callable[[], None]
    saved: Callable[[], None]
    roll_back: Callable[[], None]
    save_every_s: float


@dataclass
class _Taken:
    """Steps whose results are still on the device."""

    first: int
    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    num_targets: list[Tensor] = field(default_factory=list)
    num_tokens: int = 0
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


def run_phase(run: Run, state: TrainingState, *, hooks: Hooks, interruption: Interruption) -> None:
    """Train from `state.step` to the end of the phase, or until `after_epoch` says no.

    Raises
    ------
    Preempted
        When the process was told to end; the state is saved, or the last good one is.
    TrainingError
        When the loss diverges, or is no number, more often than the guard allows, or at the end.
    """
    run.phase.model.train()
    saved_at = time.monotonic()
    at_most = 1  # steps, until their pace is known
    shown = progress(run.phase.name, total=run.num_steps, unit="steps", shown=run.ranks.leads)
    with shown as bar, _no_collection():
        bar.advance(state.step)
        while state.step < run.num_steps and not state.ended:
            taken = _take_steps(run, state, at_most=at_most, bar=bar, interruption=interruption)
            measured = _account(run, state, taken, bar=bar)
            at_most = max(1, int(_LOOK_EVERY_S / taken.seconds * len(taken.losses)))  # the same on every rank
            gc.collect(1)
            try:
                state.ended = not _at_point(run, state, measured, hooks)
            except Diverged as divergence:
                run.guard.bound(state, divergence)
                hooks.roll_back()
                bar.advance(state.step - bar.done)
                continue
            if interruption.came(run.ranks):
                if run.guard.diverging(state):
                    logger.warning("in trouble at step %d: the last good state stays", state.step)
                else:
                    hooks.save()
                hooks.saved()
                raise interruption.preempted(phase=run.phase.name, step=state.step)
            if run.ranks.share(time.monotonic() - saved_at > hooks.save_every_s) and run.guard.well(state):
                hooks.save()
                saved_at = time.monotonic()
    run.guard.conclude(state)


def _take_steps(run: Run, state: TrainingState, *, at_most: int, bar: Progress, interruption: Interruption) -> _Taken:
    """Steps up to the next point of the curves, or fewer when the process is told to end."""
    taken = _Taken(first=state.step)
    next_point = (state.step // REPORT_EVERY_STEPS + 1) * REPORT_EVERY_STEPS
    end = min(next_point, run.epoch_end(state.step), run.num_steps, state.step + at_most)
    for step in range(state.step, end):
        units = list(my_units(run, step))
        for part in units:
            taken.num_tokens += part.num_tokens
        loss, norm, num_targets = take_step(run, step, units, rate=state.rate)
        taken.losses.append(loss)
        taken.norms.append(norm)
        taken.num_targets.append(num_targets)
        bar.advance()
        if run.ranks.size == 1 and interruption.requested:  # ranks must agree first
            break
    return taken


def my_units(run: Run, step: int) -> Iterator[Batch]:
    """What this rank computes of a step: parts of its batches, dealt out in turn."""
    for offset in range(run.accumulate):
        whole_batch: Batch | None = None
        for number in range(run.parts):
            if (offset * run.parts + number) % run.ranks.size == run.ranks.rank:
                whole_batch = whole_batch or run.phase.objective.batch(step * run.accumulate + offset)
                yield whole_batch.part(number, of=run.parts)


def take_step(run: Run, step: int, units: Sequence[Batch], *, rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """One optimizer step: summed loss, gradient norm and target count of all ranks, float64 or float32, on the device.

    The gradient is that of the mean over the targets of all parts of all batches on all ranks, whatever
    their sizes (huggingface/transformers#35203 is what happens otherwise). A step whose loss or
    gradient is not finite changes nothing, on any rank. On a GPU nothing waits for the device.
    """
    mine = float(sum(unit.num_targets for unit in units))
    num_targets = run.ranks.sum(torch.full((), mine, dtype=torch.float64, device=run.device))
    scale = (run.ranks.size / num_targets.clamp(min=1)).float()  # DDP and FSDP2 take the mean over the ranks
    total = torch.zeros((), dtype=torch.float64, device=run.device)
    for number, unit in enumerate(units):
        draws = (run.seed * _SEED_STRIDE + step) * 64 + number * run.ranks.size + run.ranks.rank
        torch.manual_seed(draws % 2**63)  # more it does not take
        loss = run.replica(unit.to(run.device), last=number == len(units) - 1)
        (loss * scale).backward()
        total += loss.detach()
    total = run.ranks.sum(total)
    norm = whole(torch.nn.utils.clip_grad_norm_(run.phase.model.parameters(), run.max_grad_norm))
    set_rate(run.optimizers, run.schedule(step) * rate)
    finite = torch.isfinite(norm) & torch.isfinite(total)
    if skip_where(run.optimizers, ~finite):
        for optimizer in run.optimizers:
            optimizer.step()
        run.average.update(step, taken=finite if finite.is_cuda else None)
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
    return total, norm, num_targets


def _account(run: Run, state: TrainingState, taken: _Taken, *, bar: Progress) -> dict[str, float]:
    """Bring the results to the host and add them up; what else is worth a point of the curves."""
    losses, norms, counts = (torch.stack(x).tolist() for x in (taken.losses, taken.norms, taken.num_targets))
    num_tokens, seconds = run.ranks.total([taken.num_tokens, time.monotonic() - taken.started])
    taken.seconds = seconds / run.ranks.size
    for step, loss, norm, num_targets in zip(
        range(taken.first, taken.first + len(losses)), losses, norms, counts, strict=True
    ):
        if math.isfinite(loss) and math.isfinite(norm):
            state.skipped_in_a_row = 0
            state.recent.append(loss / max(num_targets, 1))
            for sums in (state.since_report, state.since_epoch):
                sums.loss += loss
                sums.num_targets += int(num_targets)
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
            run.guard.tell_skipped(run.phase, step, loss=loss, norm=norm, accumulate=run.accumulate)
    state.step += len(losses)
    tokens_per_s = num_tokens / taken.seconds
    bar.advance(0, loss=state.since_report.mean, tokens_per_s=tokens_per_s)
    return {"grad_norm": norms[-1], **rates(run.optimizers), "tokens_per_s": tokens_per_s}


def _at_point(run: Run, state: TrainingState, measured: Mapping[str, float], hooks: Hooks) -> bool:
    """Judge and tell a point of the curves, when one is due, and then the epoch, when it ends; whether to go on."""
    epoch_ends = _at_epoch_end(run, state.step)
    if state.step % REPORT_EVERY_STEPS and not epoch_ends:
        return True
    run.guard.judge(state, last=state.step == run.num_steps and run.phase.judge is None)
    values = dict(measured)
    if state.since_report.num_targets:
        values = {f"{run.phase.name}_loss": state.since_report.mean, **values}
    hooks.report(state.step, {name: value for name, value in values.items() if math.isfinite(value)})
    state.since_report = Sums()
    return not epoch_ends or _end_epoch(run, state, hooks)


def _at_epoch_end(run: Run, step: int) -> bool:
    return step == run.epoch_end(step - 1) or step == run.num_steps


def _end_epoch(run: Run, state: TrainingState, hooks: Hooks) -> bool:
    mean, state.since_epoch = state.since_epoch.mean, Sums()
    last_begun = run.epochs_done(state.step - 1) + 1
    goes_on = hooks.after_epoch(max(last_begun, run.epochs_done(state.step)), mean)  # one step may end several
    run.phase.model.train()
    return goes_on


@contextmanager
def _no_collection() -> Iterator[None]:
    """The collector of cyclic garbage would stop the steps at moments of its own."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
