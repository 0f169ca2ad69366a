"""One training under way: its phases, in order, each of which can be resumed.

prepare   the wide branch is fitted to its optimum; token embeddings start from co-occurrence
pretrain  the Transformer guesses hidden tokens
train     the Transformer learns from labels; the epoch with the lowest hold-out loss is kept
blend     the two branches are weighed on the hold-out

Batches are pure functions of (seed, index); everything else that matters is in the saved state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from noria.config import Config
from noria.events import log_metrics
from noria.model.text_classifier import DeepBranch, TextClassifier
from noria.training.blend import set_blend
from noria.training.data import TrainingRows
from noria.training.embeddings import cooccurrence_vectors
from noria.training.inference import deep_logits, wide_logits
from noria.training.linear import fit_wide
from noria.training.loop import Hooks, Phase, finite_loss, run_phase
from noria.training.losses import build_loss
from noria.training.objectives import Labels, MaskedTokens, Objective
from noria.training.optimizers import build_optimizers
from noria.training.probe import PRECISIONS, choose_precision
from noria.training.schedules import build_schedule
from noria.training.state import Point, StateStore, TrainingState, restore_optimizers

logger = logging.getLogger(__name__)

OnMetrics = Callable[[int, Mapping[str, float]], None]
"""(step of the phase, values by name): one point of the learning curves."""

_PHASES = ("prepare", "pretrain", "train", "blend")
_EMBEDDING_STD = 0.05


@dataclass(frozen=True)
class Job:
    """What a training works on.

    Attributes
    ----------
    model:
        On its device; changes as it learns.
    clause_ends:
        Ids of the tokens that end a clause.
    store:
        Where the state goes, and comes from after a kill.
    on_metrics:
        Is told every point of the learning curves.
    """

    config: Config
    model: TextClassifier
    rows: TrainingRows
    clause_ends: frozenset[int]
    store: StateStore
    on_metrics: OnMetrics

    def record(self, state: TrainingState, step: int, values: Mapping[str, float]) -> None:
        """One point of the learning curves, for whoever listens now and for a resumed run."""
        state.history.append(Point(step, values))
        log_metrics(step, values)
        self.on_metrics(step, values)


def run_job(job: Job) -> Mapping[str, object]:
    """Run the phases, from the saved state if there is one; return facts worth keeping with the checkpoint."""
    saved = job.store.load()
    if saved is None:
        state = TrainingState(precision=_precision(job), phase=_PHASES[0])
    else:
        state = saved.state
        logger.info("going on in phase `%s` at step %d", state.phase, state.step)
        job.model.load_state_dict(saved.model)
        for point in state.history:
            job.on_metrics(point.step, point.values)
    if job.model.deep is not None:
        job.model.deep.compute_dtype = PRECISIONS[state.precision]
    optimizers = () if saved is None else saved.optimizers
    for phase in _PHASES[_PHASES.index(state.phase) :]:
        if state.phase != phase:
            state.enter(phase)
            optimizers = ()
            job.store.save(state, model=job.model, optimizers=())
        _run(phase, job, state, optimizers=optimizers)
    return {
        "precision": state.precision,
        "best_epoch": state.best_epoch,
        **dict(state.history[-1].values),
    }


def _run(
    phase: str, job: Job, state: TrainingState, *, optimizers: tuple[Mapping[int, Mapping[str, Tensor]], ...]
) -> None:
    if phase == "prepare":
        _prepare(job)
    elif phase == "blend":
        _blend(job, state)
    elif job.model.deep is not None and (phase == "train" or job.config.train.pretrain.epochs):
        built = _pretraining(job, job.model.deep) if phase == "pretrain" else _training(job, job.model.deep)
        restore_optimizers(built.optimizers, optimizers)
        run_phase(built, state, deep=job.model.deep, hooks=_hooks(job, state, job.model.deep, built))
        if state.best:
            job.model.deep.load_state_dict(state.best)
            state.best = {}


def _prepare(job: Job) -> None:
    model, rows = job.model, job.rows
    if model.wide is not None:
        fit_wide(
            model.wide,
            rows.tensor("ngram_ids", holdout=False),
            rows.tensor("ngram_values", holdout=False),
            rows.labels(holdout=False),
            inverse_regularization=job.config.model.wide.inverse_regularization,
        )
    window = job.config.train.pretrain.cooccurrence_window
    if model.deep is not None and window:
        tokens_VD = model.deep.frontend.tokens
        vectors_VD = cooccurrence_vectors(
            rows.tensor("token_ids", holdout=False),
            vocabulary_size=len(tokens_VD),
            dim=tokens_VD.shape[1],
            window=window,
            std=_EMBEDDING_STD,
            seed=job.config.seed,
        )
        if vectors_VD is not None:
            with torch.no_grad():
                tokens_VD.copy_(vectors_VD)


def _pretraining(job: Job, deep: DeepBranch) -> Phase:
    config = job.config.train.pretrain
    objective = MaskedTokens(
        job.rows.tensor("token_ids", holdout=False),
        mask_share=config.mask_share,
        batch_tokens=config.batch_tokens,
        vocabulary_size=len(deep.frontend.tokens),
        seed=job.config.seed,
    )
    return _phase(
        job,
        deep,
        name="pretrain",
        objective=objective,
        epochs=config.epochs,
        lr=config.lr,
        muon_lr=config.muon_lr,
        schedule=config.schedule,
    )


def _training(job: Job, deep: DeepBranch) -> Phase:
    config = job.config.train
    objective = Labels(
        job.rows.tensor("token_ids", holdout=False),
        job.rows.labels(holdout=False),
        loss=build_loss(config),
        token_mask=config.token_mask,
        clause_shuffle=config.clause_shuffle,
        clause_ends=job.clause_ends,
        batch_tokens=config.batch_tokens,
        seed=job.config.seed,
    )
    return _phase(
        job,
        deep,
        name="train",
        objective=objective,
        epochs=config.epochs,
        lr=config.lr,
        muon_lr=config.muon_lr,
        schedule=config.schedule,
    )


def _phase(
    job: Job,
    deep: DeepBranch,
    *,
    name: str,
    objective: Objective,
    epochs: float,
    lr: float,
    muon_lr: float,
    schedule: str,
) -> Phase:
    config = job.config.train
    steps_per_epoch = max(1, len(objective.plan) // config.accumulate)
    num_steps = max(1, round(epochs * steps_per_epoch))
    optimizers = build_optimizers(
        config.optimizer,
        deep,
        matrices=deep.encoder,
        lr=lr,
        muon_lr=muon_lr,
        weight_decay=config.weight_decay,
    )
    return Phase(
        name=name,
        objective=objective,
        optimizers=tuple(optimizers),
        schedule=build_schedule(
            schedule, num_steps=num_steps, warmup_share=config.warmup_share, decay_share=config.decay_share
        ),
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        accumulate=config.accumulate,
        max_grad_norm=config.max_grad_norm,
    )


def _hooks(job: Job, state: TrainingState, deep: DeepBranch, phase: Phase) -> Hooks:
    def after_epoch(epoch: int, loss: float) -> bool:
        if phase.name == "pretrain":
            logger.info("pretraining, epoch %d: loss %.4f", epoch, loss)
            return True
        return _judge_epoch(job, state, deep, epoch=epoch, loss=loss)

    return Hooks(
        report=lambda step, loss: job.record(state, step, {f"{phase.name}_loss": loss}),
        after_epoch=after_epoch,
        save=lambda: job.store.save(state, model=job.model, optimizers=phase.optimizers),
        save_every_s=job.config.train.checkpoint_every_s,
    )


def _judge_epoch(job: Job, state: TrainingState, deep: DeepBranch, *, epoch: int, loss: float) -> bool:
    """Keep the weights if the hold-out loss is the lowest so far; say whether to go on."""
    logits_NC = deep_logits(deep, job.rows.tensor("token_ids", holdout=True))
    classes_N = torch.from_numpy(job.rows.labels(holdout=True))
    judged = float(build_loss(job.config.train)(logits_NC, classes_N)) / len(classes_N)
    finite_loss(judged, phase="train", step=state.step)
    accuracy = _accuracy(logits_NC, classes_N)
    logger.info("epoch %d: loss %.4f, hold-out loss %.4f, hold-out accuracy %.4f", epoch, loss, judged, accuracy)
    job.record(state, state.step, {"holdout_loss": judged, "holdout_accuracy": accuracy})
    if judged < state.best_loss:
        state.best_loss, state.best_epoch, state.epochs_since_best = judged, epoch, 0
        state.best = {name: tensor.detach().cpu().clone() for name, tensor in deep.state_dict().items()}
        return True
    state.epochs_since_best += 1
    patience = job.config.train.patience
    return not patience or state.epochs_since_best < patience


def _blend(job: Job, state: TrainingState) -> None:
    model, rows = job.model, job.rows
    classes_N = torch.from_numpy(rows.labels(holdout=True))
    wide_NC = deep_NC = None
    if model.wide is not None:
        wide = model.wide.cpu()
        wide_NC = wide_logits(wide, rows.tensor("ngram_ids", holdout=True), rows.tensor("ngram_values", holdout=True))
    if model.deep is not None:
        model.deep.compute_dtype = torch.float32
        deep_NC = deep_logits(model.deep, rows.tensor("token_ids", holdout=True))
    loss = set_blend(
        model, wide_NC=wide_NC, deep_NC=deep_NC, classes_N=classes_N, deep_weight=job.config.model.deep_weight
    )
    values = {"blend_loss": loss}
    for name, logits_NC in (("wide", wide_NC), ("deep", deep_NC)):
        if logits_NC is not None:
            values[f"{name}_accuracy"] = _accuracy(logits_NC, classes_N)
    blended_NC = sum(
        float(scale) * logits_NC
        for scale, logits_NC in ((model.wide_scale, wide_NC), (model.deep_scale, deep_NC))
        if logits_NC is not None
    )
    assert isinstance(blended_NC, Tensor)
    values["blend_accuracy"] = _accuracy(blended_NC, classes_N)
    logger.info("hold-out: %s", ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
    job.record(state, state.step, values)


def _accuracy(logits_NC: Tensor, classes_N: Tensor) -> float:
    return float((logits_NC.argmax(-1) == classes_N).double().mean())


def _precision(job: Job) -> str:
    """Measured on a forward and backward pass of the middle batch of an epoch."""
    if job.model.deep is None:
        return "fp32"
    deep = job.model.deep
    objective = _training(job, deep).objective
    batch = objective.micro_batch(len(objective.plan) // 2).to(next(deep.parameters()).device)

    def attempt(dtype: torch.dtype) -> None:
        deep.compute_dtype = dtype
        objective.loss(deep, batch).backward()  # type: ignore[no-untyped-call]
        deep.zero_grad(set_to_none=True)

    return choose_precision(job.config.train, device=next(deep.parameters()).device, attempt=attempt)
