"""Smaller models made of a trained one: pruned, or of fewer layers; both then learn from the trained one's answers.

The last phase of the scenario's recipe, and the fits behind it, are all that this knows of a training: a copy that has
become smaller runs through them again, for a number of steps, beside the labels taught by the model that it was
(Hinton et al. 2015, arXiv:1503.02531). So it is the trainer that trains, on the training side of the split alone.
It trains with the precision and the threads that were chosen for the trained model: on a CPU equal checkpoints give
equal weights.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from noria.config import CompressConfig, Config, DistillConfig, LoraConfig, TrainConfig
from noria.errors import TrainingError
from noria.events import progress
from noria.model.pruning import (
    UNITS_AT_ONCE,
    gate_slopes,
    kept,
    layers_taken,
    num_layers,
    num_parameters,
    pruned,
    shallower,
)
from noria.scenarios.base import Scenario
from noria.training.batch import Batch
from noria.training.checkpoint import Trained
from noria.training.data import TrainingRows, TrainingSide
from noria.training.losses import Said, distillation
from noria.training.probe import choose_device, cpu_has_bf16
from noria.training.recipe import Distillable, Fit, Objective, Phase, Recipe
from noria.training.run import Job, run_job
from noria.training.state import StateStore

logger = logging.getLogger(__name__)

PRUNED, STUDENT = "pruned", "student"
_PARTS = 8  # of a batch: rows of one part may cancel each other out
_CANT_COMPRESS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,  # a fault of ours, too: the model as it was trained can go out all the same
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TrainingError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Compressed:
    """A smaller model.

    Attributes
    ----------
    model:
        In evaluation mode, float32 on the CPU.
    how:
        What was done, in words.
    parameters:
        How many are left.
    seconds:
        What it took to make it.
    """

    model: nn.Module
    how: str
    parameters: int
    seconds: float


def compress(
    trained: Trained,
    splits: Path,
    *,
    scenario: Scenario,
    config: CompressConfig,
    ran: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Compressed | Exception]:
    """Every smaller model that is asked for, by name; one that can't be made is its error.

    `ran` are the facts of the checkpoint: how the training ran.

    Raises
    ------
    Preempted
        When the process was told to end.
    """
    means: dict[str, Callable[[_School], tuple[nn.Module, str]]] = {}
    if config.prune.heads or config.prune.feed_forward:
        means[PRUNED] = _prune
    if config.distill.layers:
        means[STUDENT] = _distill
    made: dict[str, Compressed | Exception] = {}
    with tempfile.TemporaryDirectory(prefix="noria-compress-") as directory:
        school: _School | None = None
        for name, make in means.items():
            started = time.monotonic()
            try:
                school = school or _School.of(
                    trained, splits, Path(directory), scenario=scenario, config=config, ran=ran
                )
                model, how = make(school)
            except _CANT_COMPRESS as error:
                logger.warning("%s can't be made: %s", name, error)
                made[name] = error
                continue
            left, before = num_parameters(model), num_parameters(trained.model)
            how = f"{how}; {left:,} of {before:,} parameters are left"
            logger.info("%s: %s", name, how)
            made[name] = Compressed(model, how, left, time.monotonic() - started)
    return made


class Distilled:
    """An objective, and beside it the answers of a teacher to the same batches."""

    def __init__(self, objective: Distillable, teacher: nn.Module, *, weight: float, temperature: float) -> None:
        self._objective = objective
        self._teacher = teacher
        self._weight = weight
        self._temperature = temperature

    def __len__(self) -> int:
        return len(self._objective)

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        return self._objective.batch(index)

    def largest(self) -> Batch:
        """A batch that needs as much memory as any."""
        return self._objective.largest()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """(1 - weight) * the objective's own loss + weight * T² KL(teacher || model), each a sum over the batch."""
        said = self._objective.said(model, batch)
        with torch.no_grad():
            taught: Said = self._objective.said(self._teacher, batch)
        own = self._objective.loss_of(said, batch)
        return (1 - self._weight) * own + self._weight * distillation(said, taught, temperature=self._temperature)


@dataclass(frozen=True)
class _School:
    """What smaller models are made of, and what they learn from.

    Attributes
    ----------
    config:
        That of the training, without what would make it depend on the clock, on other ranks or on another model.
    teacher:
        The trained model on the device, which does not learn.
    scratch:
        For states of the training; nothing of it is kept.
    """

    config: Config
    compress: CompressConfig
    scenario: Scenario
    trained: Trained
    teacher: nn.Module
    rows: TrainingRows
    device: torch.device
    scratch: Path

    @classmethod
    def of(
        cls,
        trained: Trained,
        splits: Path,
        scratch: Path,
        *,
        scenario: Scenario,
        config: CompressConfig,
        ran: Mapping[str, object],
    ) -> _School:
        """Encode the training rows as they were encoded for the training."""
        train = _as_it_ran(trained.config.train, ran)
        device = choose_device(train)
        side = TrainingSide(splits / "train", scenario=scenario, holdout_share=train.holdout_share)
        rows = side.encode(trained.encoder, scratch=scratch / "rows")
        return cls(
            config=trained.config.model_copy(update={"train": train.model_copy(update={"deterministic": True})}),
            compress=config,
            scenario=scenario,
            trained=trained,
            teacher=copy.deepcopy(trained.model).to(device).requires_grad_(False),
            rows=rows,
            device=device,
            scratch=scratch,
        )

    def lesson(self, model: nn.Module) -> tuple[Phase, list[Fit]]:
        """The last phase of the training of `model`, and the fits behind it.

        Raises
        ------
        TrainingError
            When the training has no phase.
        """
        recipe = list(self.scenario.recipe(self.config, self.trained.encoder, self.rows, model))
        places = [place for place, part in enumerate(recipe) if isinstance(part, Phase)]
        if not places:
            raise TrainingError("nothing of this model learns by steps", next_step="leave `optimize.compress` out")
        phase = recipe[places[-1]]
        assert isinstance(phase, Phase)
        return phase, [part for part in recipe[places[-1] + 1 :] if isinstance(part, Fit)]

    def teach(self, model: nn.Module, *, name: str, steps: int) -> tuple[nn.Module, str]:
        """Train `model` for some steps, beside its targets by the teacher's answers where the objective takes any.

        With it, that in words.
        """
        model = model.to(self.device)
        phase, fits = self.lesson(model)
        objective = self._taught(phase, model)
        rate, train = self.compress.lr_factor, self.config.train
        phase = replace(
            phase,
            name=name,
            objective=objective,
            epochs=steps * train.accumulate / len(objective),
            lr=rate * phase.lr,
            muon_lr=rate * phase.muon_lr,
        )
        recipe: Recipe = [phase, *fits] if steps else fits
        if recipe:
            self._run(model, recipe, name=name)
        for module in model.modules():
            if hasattr(module, "compute_dtype"):
                module.compute_dtype = torch.float32  # type: ignore[assignment]
        by = "by the whole model's answers too" if isinstance(objective, Distilled) else "by targets alone"
        return model.cpu().eval(), f"then {steps:,} steps of training {by}" if steps else "without training"

    def _taught(self, phase: Phase, model: nn.Module) -> Objective:
        if not isinstance(phase.objective, Distillable) or not self.compress.weight:
            return phase.objective
        (place,) = (name for name, module in model.named_modules() if module is phase.model)
        weight, temperature = self.compress.weight, self.compress.temperature
        return Distilled(phase.objective, self.teacher.get_submodule(place), weight=weight, temperature=temperature)

    def _run(self, model: nn.Module, recipe: Recipe, *, name: str) -> None:
        store = StateStore(self.scratch / name, fingerprint=name)
        run_job(
            Job(
                config=self.config.train,
                seed=self.config.seed,
                model=model,
                recipe=recipe,
                row_id=self.rows.row_id,
                store=store,
                on_metrics=lambda step, values: None,
                device=self.device,
            )
        )


def _as_it_ran(train: TrainConfig, ran: Mapping[str, object]) -> TrainConfig:
    """The settings with what was probed for the training, for one process, and without another model's part in it."""
    changes: dict[str, object] = {name: ran[name] for name in ("precision", "threads") if name in ran}
    if changes.get("precision") == "bf16" and not torch.cuda.is_available() and not cpu_has_bf16():
        changes["precision"] = "fp32"  # it was trained on another kind of machine
    alone = {"deterministic": False, "distributed": "none", "lora": LoraConfig(), "distill": DistillConfig()}
    return train.model_copy(update={**changes, **alone})


def _prune(school: _School) -> tuple[nn.Module, str]:
    prune = school.compress.prune
    heads, units = _importance(school)
    heads = heads if prune.heads else {}
    units = units if prune.feed_forward else {}
    heads_left = kept(heads, prune.heads)
    units_left = kept(units, prune.feed_forward, at_once=UNITS_AT_ONCE)
    gone = [
        f"{total - left:,} of {total:,} {what}"
        for what, scores, numbers in (("attention heads", heads, heads_left), ("feed-forward units", units, units_left))
        for total, left in [(_count(scores), _count(numbers))]
        if total > left
    ]
    if not gone:
        raise TrainingError(
            "nothing is to be taken out",
            where=f"params.yaml: optimize.compress.prune, for {_count(heads)} heads and {_count(units)} units",
            expected="shares that are a head, or 8 units of a layer",
            next_step="raise them, or set them to 0",
        )
    model = pruned(school.trained.model, heads=heads_left, units=units_left)
    model, taught = school.teach(model, name="recover", steps=prune.steps)
    return model, f"{' and '.join(gone)} taken out, {taught}"


def _importance(school: _School) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sums over training rows, a few at a time, of |dL / dg| of every head and every unit."""
    model = copy.deepcopy(school.trained.model).to(school.device)
    phase, _ = school.lesson(model)
    model.eval()
    num_batches = min(school.compress.prune.batches, len(phase.objective))
    sums: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    with progress("weigh heads and units", total=num_batches, unit="batches") as bar:
        for index in range(num_batches):
            for part in _parts(phase.objective.batch(index)):
                phase.objective.loss(phase.model, part.to(school.device)).backward()  # type: ignore[no-untyped-call]
                for total, slopes in zip(sums, gate_slopes(model), strict=True):
                    for name, slope in slopes.items():
                        total[name] = total.get(name, 0.0) + slope.cpu()
                model.zero_grad(set_to_none=True)
            bar.advance()
    return sums


def _parts(batch: Batch) -> Iterator[Batch]:
    number = min(_PARTS, len(batch.rows))
    return (part for part in (batch.part(place, of=number) for place in range(number)) if part.num_targets)


def _distill(school: _School) -> tuple[nn.Module, str]:
    config, whole = school.compress.distill, num_layers(school.trained.model)
    if config.layers >= whole:
        raise TrainingError(
            f"a student of {config.layers} layers is no smaller than the model, which has {whole}",
            where="params.yaml: optimize.compress.distill.layers",
        )
    student = shallower(school.trained.model, config.layers)
    model, taught = school.teach(student, name="distill", steps=config.steps)
    taken = ", ".join(str(number + 1) for number in layers_taken(whole, config.layers))
    return model, f"{config.layers} of {whole} layers ({taken}), {taught}"


def _count(numbers: Mapping[str, Sequence[int] | Tensor]) -> int:
    return sum(len(each) for each in numbers.values())
