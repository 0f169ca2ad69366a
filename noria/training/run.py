"""One training under way: its recipe, part by part, each of which can be resumed.

Batches are pure functions of (seed, index); everything else that matters is in the saved state.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from noria.config import TrainConfig
from noria.errors import TrainingError
from noria.events import log_metrics
from noria.model.lora import low_rank
from noria.training.averaging import Average
from noria.training.batch import Batch
from noria.training.distributed import Ranks, Replica, shard, whole
from noria.training.guards import Guard, Interruption, finite
from noria.training.loop import Hooks, Run, run_phase
from noria.training.meter import Meter, Usage, mfu, over_ranks
from noria.training.optimizers import build_optimizers
from noria.training.probe import PRECISIONS, bytes_beside, choose, compile_blocks, fitting_parts
from noria.training.recipe import Fit, Phase, Recipe
from noria.training.schedules import build_schedule
from noria.training.state import Choices, Point, Saved, StateStore, TrainingState, load_weights, restore

logger = logging.getLogger(__name__)

OnMetrics = Callable[[int, Mapping[str, float]], None]
"""(step of the phase, values by name): one point of the learning curves."""


@dataclass(frozen=True)
class Job:
    """What a training works on.

    Attributes
    ----------
    model:
        On its device; changes as it learns.
    row_id:
        Names a training row by its number.
    store:
        Where the state goes, and comes from after a kill.
    on_metrics:
        Is told every point of the learning curves.
    """

    config: TrainConfig
    seed: int
    model: nn.Module
    recipe: Recipe
    row_id: Callable[[int], str]
    store: StateStore
    on_metrics: OnMetrics
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)

    def record(self, state: TrainingState, step: int, values: Mapping[str, float]) -> None:
        """One point of the learning curves, for whoever listens now and for a resumed run."""
        if not values:
            return
        state.history.append(Point(step, values))
        if self.ranks.leads:
            log_metrics(step, values)
            self.on_metrics(step, values)


@dataclass(frozen=True)
class Outcome:
    """Facts worth keeping with the checkpoint, and what was used; `mfu` is the share of a GPU's peak, by phase.

    `history` are the points of the learning curves, without those that a rollback undid.
    """

    facts: Mapping[str, object]
    usage: Usage
    choices: Mapping[str, object]
    mfu: Mapping[str, float]
    history: Sequence[Point]


def run_job(job: Job) -> Outcome:
    """Run the recipe, from the saved state if there is one.

    Raises
    ------
    Preempted
        When the process was told to end; the state is saved, or the last good one is.
    TrainingError
        When the loss diverges, or is no number, more often than the guard allows.
    OSError
        When the state can't be saved as the process is told to end. Other saves that fail are
        warnings: see `StateStore`.
    """
    parts = list(job.recipe)
    names = [part.name for part in parts]
    saved = job.ranks.newest(job.store.load(), age=partial(_age, job))
    state = TrainingState(phase=names[0]) if saved is None else saved.state
    if saved is not None:
        logger.info("going on in `%s` at step %d", state.phase, state.step)
        for point in state.history:
            if job.ranks.leads:
                job.on_metrics(point.step, point.values)
    before = state.usage if job.ranks.rank == 0 else None  # of all ranks together, so one takes it
    meter = Meter(job.device, previous=Usage(**before) if before else None)  # type: ignore[arg-type]
    for part in parts[names.index(state.phase) :]:
        if state.phase != part.name:
            state.enter(part.name)
            saved = None
            _save(job, state, meter, optimizers=())
        if isinstance(part, Fit):
            if saved is not None:
                load_weights(job.model, saved.model)
            _fit(job, part, state)
        else:
            _learn(job, part, state, saved, meter)
    job.store.settle()
    last = dict(state.history[-1].values) if state.history else {}
    last.pop("tokens_per_s", None)  # a fact is the same when the training is run again
    best = {"best_loss": state.best_loss} if math.isfinite(state.best_loss) else {}
    facts = {**state.ran, "best_epoch": state.best_epoch, **best, **last}
    return Outcome(facts, meter.read(), state.ran, _utilization(job, state.history), tuple(state.history))


def _utilization(job: Job, history: Sequence[Point]) -> Mapping[str, float]:
    """By phase, from the median of its points; empty on a CPU and on a GPU whose peak nobody noted."""
    shares = {}
    for phase in job.recipe:
        speeds = [point.values["tokens_per_s"] for point in history if f"{phase.name}_loss" in point.values]
        if job.device.type != "cuda" or isinstance(phase, Fit) or not speeds or not phase.flops_per_token:
            continue
        name, num_devices = torch.cuda.get_device_name(job.device), job.ranks.size
        share = mfu(statistics.median(speeds), phase.flops_per_token, name, num_devices=num_devices)
        if share is not None:
            shares[phase.name] = share
    return shares


def _age(job: Job, saved: Saved | None) -> tuple[int, ...]:
    """Orders the saves of a training, no two of which are alike: ranks that went on from two would drift apart."""
    if saved is None:
        return (-1,)
    state = saved.state
    number = [part.name for part in job.recipe].index(state.phase)
    return (number, state.rollbacks, state.step, state.choices is not None)


def _save(job: Job, state: TrainingState, meter: Meter, *, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    state.usage = asdict(over_ranks(job.ranks.gather(meter.read())))  # the next run may have other ranks
    job.store.save(state, model=job.model, optimizers=optimizers)


def _fit(job: Job, part: Fit, state: TrainingState) -> None:
    """On every rank, none of which would have anything else to do; what the first found counts."""
    values = job.ranks.share(dict(part.run()))
    job.ranks.align(job.model)
    if values:
        logger.info("%s: %s", part.name, ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    job.record(state, state.step, values)


def _learn(job: Job, phase: Phase, state: TrainingState, saved: Saved | None, meter: Meter) -> None:
    """A phase of gradient steps; afterwards the model has the weights that are kept."""
    config = job.config
    if saved is not None and saved.state.choices is None:  # before the phase was prepared: no low-rank updates yet
        load_weights(job.model, saved.model)
        saved = None
    with low_rank(phase.model, phase.matrices, head=phase.head, config=config.lora, seed=job.seed):
        if config.distributed == "fsdp2" and job.ranks.size > 1:
            shard(phase.model, device=job.device)
        if saved is not None:
            load_weights(job.model, saved.model)
        run = _prepare(job, phase, state)
        if saved is not None:
            _restore(job, run, saved)
        hooks = _hooks(job, run, state, meter)
        if saved is None:
            hooks.save()  # to go back to, if training diverges soon
        interruption = Interruption()
        with interruption.watched():
            run_phase(run, state, hooks=hooks, interruption=interruption)
        if state.best:
            load_weights(phase.model, state.best)
        else:
            run.average.keep()
        state.best, state.average = {}, {}
        compile_blocks(phase.model, on=False)
    assert state.choices is not None
    state.ran = asdict(state.choices)


def _restore(job: Job, run: Run, saved: Saved) -> None:
    restore(job.model, run.optimizers, saved)
    run.average.load(saved.state.average)


def _prepare(job: Job, phase: Phase, state: TrainingState) -> Run:
    """Build what the steps need, with what was chosen; choose what has not been yet."""
    config, ranks = job.config, job.ranks
    num_steps = max(1, round(phase.epochs * len(phase.objective) / config.accumulate))
    for module in phase.model.modules():
        if hasattr(module, "recompute"):
            module.recompute = config.activation_checkpointing  # type: ignore[assignment]
    phase.model.train()
    if state.choices is None:
        state.choices = _choose(job, phase, num_passes=num_steps * config.accumulate // ranks.size)
    _apply(job, phase, state.choices)
    optimizers = _optimizers(job, phase)
    parts = _num_parts(job, phase, state.choices, optimizers)
    state.choices = replace(state.choices, parts=parts, ranks=ranks.size)
    sample = partial(_sample, job, phase, parts)
    return Run(
        phase=phase,
        replica=Replica(phase.model, phase.objective, kind=config.distributed, ranks=ranks, sample=sample),
        optimizers=optimizers,
        schedule=build_schedule(
            phase.schedule, num_steps=num_steps, warmup_share=config.warmup_share, decay_share=config.decay_share
        ),
        average=Average(config.average, phase.model, num_steps=num_steps),
        guard=Guard(config.guard, row_id=job.row_id),
        ranks=ranks,
        device=job.device,
        num_steps=num_steps,
        accumulate=config.accumulate,
        parts=parts,
        max_grad_norm=config.max_grad_norm,
        seed=job.seed,
    )


def _optimizers(job: Job, phase: Phase) -> tuple[Optimizer, ...]:
    return tuple(
        build_optimizers(
            job.config.optimizer,
            phase.model,
            matrices=phase.matrices,
            lr=phase.lr,
            muon_lr=phase.muon_lr,
            weight_decay=job.config.weight_decay,
        )
    )


def _choose(job: Job, phase: Phase, *, num_passes: int) -> Choices:
    """Probe on a typical batch, cut where it does not fit into memory; all of it, or times would not compare."""
    typical = phase.objective.batch(len(phase.objective) // 2).to(job.device)
    parts = 1

    def passes(of: int) -> None:
        for number in range(of):
            _pass(phase, typical.part(number, of=of))

    def attempt(dtype: torch.dtype) -> None:
        nonlocal parts
        _set_precision(phase.model, dtype)
        parts = fitting_parts(passes, parts=parts, total=job.ranks.total)

    return choose(
        job.config,
        device=job.device,
        attempt=attempt,
        blocks=phase.matrices,
        num_passes=num_passes,
        slowest=lambda seconds: max(job.ranks.gather(seconds)),
    )


def _apply(job: Job, phase: Phase, choices: Choices) -> None:
    if choices.compiled:
        compile_blocks(phase.matrices, on=True)
    if job.device.type == "cpu":
        torch.set_num_threads(choices.threads)
    _set_precision(phase.model, PRECISIONS[choices.precision])


def _num_parts(job: Job, phase: Phase, choices: Choices, optimizers: Sequence[Optimizer]) -> int:
    """How many passes a batch takes: so many that all ranks have as many in a step, and that they fit into memory."""
    ranks, accumulate = job.ranks, job.config.accumulate
    parts = _least_parts(choices, num_ranks=ranks.size, accumulate=accumulate)
    if job.device.type == "cpu":
        return parts

    def attempt(parts: int) -> None:
        num_bytes = bytes_beside(job.config, optimizers, num_passes=accumulate * parts // ranks.size)
        held = torch.empty(num_bytes, dtype=torch.uint8, device=job.device)  # none of it exists yet
        _pass(phase, phase.objective.largest().part(parts - 1, of=parts).to(job.device))  # no part has more rows
        del held

    return fitting_parts(attempt, parts=parts, total=ranks.total)


def _least_parts(choices: Choices, *, num_ranks: int, accumulate: int) -> int:
    """So that all ranks have as many passes in a step, and not fewer than the run that this one goes on from."""
    parts = num_ranks // math.gcd(num_ranks, accumulate)
    return max(parts, choices.parts) if choices.ranks == num_ranks else parts


def _sample(job: Job, phase: Phase, parts: int) -> Batch:
    return phase.objective.batch(0).part(0, of=parts).to(job.device)


def _pass(phase: Phase, batch: Batch) -> None:
    """Forward and backward, to no end; also where it fails midway, no gradient is left for the first step."""
    try:
        phase.objective.loss(phase.model, batch).backward()  # type: ignore[no-untyped-call]
    finally:
        phase.model.zero_grad(set_to_none=True)


def _set_precision(model: nn.Module, dtype: torch.dtype) -> None:
    model.compute_dtype = dtype  # type: ignore[assignment]


def _hooks(job: Job, run: Run, state: TrainingState, meter: Meter) -> Hooks:
    def save() -> None:
        state.average = run.average.saved
        _save(job, state, meter, optimizers=run.optimizers)

    def roll_back() -> None:
        rollbacks, rate = state.rollbacks + 1, state.rate * job.config.guard.rollback_rate
        saved = job.ranks.newest(job.store.load(), age=partial(_age, job))
        if saved is None or saved.state.phase != state.phase:
            raise TrainingError(
                "training diverged, and there is no saved state of this phase to go back to",
                where=f"phase `{state.phase}`, step {state.step}",
                next_step="make room on the disk, or lower `train.lr`",
            )
        state.go_back(saved.state)
        state.rollbacks, state.rate = rollbacks, rate
        _restore(job, run, saved)
        save()  # with the lower rate, for a process that is killed now
        job.store.settle()
        logger.warning("back at step %d, at %g of the learning rate", state.step, rate)

    return Hooks(
        report=lambda step, values: job.record(state, step, values),
        after_epoch=lambda epoch, loss: _judge_epoch(job, run, state, epoch=epoch, loss=loss),
        save=save,
        saved=job.store.wait,
        roll_back=roll_back,
        save_every_s=job.config.checkpoint_every_s,
    )


def _judge_epoch(job: Job, run: Run, state: TrainingState, *, epoch: int, loss: float) -> bool:
    """Keep the weights if the hold-out loss is the lowest so far; say whether to go on."""
    phase = run.phase
    if phase.judge is None:
        logger.info("%s, epoch %d: loss %.4f", phase.name, epoch, loss)
        return True
    with run.average.applied():
        values = job.ranks.share(dict(phase.judge()))
        judged = finite(values["holdout_loss"])
        better = not state.best or judged < state.best_loss
        if better:
            state.best = _copy(phase.model)
    told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())
    logger.info("%s, epoch %d: loss %.4f, %s", phase.name, epoch, loss, told)
    job.record(state, state.step, values)
    if better:
        state.best_loss, state.best_epoch, state.epochs_since_best = judged, epoch, 0
        return True
    state.epochs_since_best += 1
    return not job.config.patience or state.epochs_since_best < job.config.patience


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole(tensor.detach()).cpu().clone() for name, tensor in model.state_dict().items()}
