"""The record of a search: an Optuna study in a journal file, named after all that its results depend on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from noria.artifacts import Artifact, digest_of, digest_training_code
from noria.config.tune import Scalar
from noria.tuning.space import TRAINED_ON, Dimension, Space, value_at

logger = logging.getLogger(__name__)

BASELINE = "baseline"
"""Attribute of the trial with the current parameters."""
REFUSED = "refused"
"""Attribute of values that nobody trained with, and why."""

_JOURNAL = "journal.log"
_DIGITS = 4  # what is trained with is what the diff shows: no more digits than matter
_NAME_DIGITS = 12
_STUBBORN = 5
_INCOMPARABLE = ("train.loss", "train.label_smoothing")


def study_name(splits: Artifact, space: Space) -> str:
    """Changes with the training rows, the space, the current parameters and the code: other results, another study."""
    rows = digest_of({name: digest for name, digest in splits.files.items() if name.startswith("train/")})
    settings = space.base.model_dump(mode="json", include={"scenario", *TRAINED_ON})
    searched = space.base.tune.model_dump(mode="json", include={"space", "pruner", "startup_trials"})
    versions = {name: importlib.metadata.version(name) for name in ("optuna", "torch")}
    text = json.dumps([rows, settings, searched, versions, digest_training_code()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]


def open_study(directory: Path, *, name: str, space: Space) -> optuna.Study:
    """Open the study in `directory`, or begin it with the current parameters as its first trial.

    The caller makes sure that nobody else has it open.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # one line a trial is ours to say
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    directory.mkdir(parents=True, exist_ok=True)
    journal = directory / _JOURNAL
    _mend(journal)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=name,
        pruner=_pruner(space),
        load_if_exists=True,
    )
    if not study.get_trials(deepcopy=False):
        contained = {d.path: v for d in space.dimensions if d.contains(v := value_at(space.base, d.path))}
        study.enqueue_trial(contained, user_attrs={BASELINE: True})
    return study


def _mend(journal: Path) -> None:
    """Take away what a killed search left: a line without an end, which spoils the next, and the lock."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists():
        text = journal.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            journal.write_bytes(whole)


def prepare_sampler(study: optuna.Study, space: Space, *, number: int | None = None) -> None:
    """What trial `number` (the next one, by default) tries is a function of the seed and of the trials before it.

    One generator for the whole search would start anew with every resumption and repeat itself.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING][:number]
    seed = int(np.random.SeedSequence([space.base.seed, len(trials)]).generate_state(1)[0])
    if len(trials) >= _STUBBORN and all(REFUSED in trial.user_attrs for trial in trials[-_STUBBORN:]):
        study.sampler = optuna.samplers.RandomSampler(seed=seed)  # in a small space the model may insist on one point
    else:
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=space.base.tune.startup_trials, seed=seed)


def suggest(trial: Trial, space: Space) -> dict[str, Scalar]:
    """What a trial tries at each path."""
    if trial.user_attrs.get(BASELINE):
        for dimension in space.dimensions:
            if dimension.contains(value_at(space.base, dimension.path)):
                _suggest(trial, dimension)  # fixed when it was enqueued: the sampler learns from it
        return space.current()
    return {dimension.path: _suggest(trial, dimension) for dimension in space.dimensions}


def _suggest(trial: Trial, dimension: Dimension) -> Scalar:
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.kind == "choice":
        return trial.suggest_categorical(dimension.path, list(dimension.choices))
    if dimension.kind == "int":
        return trial.suggest_int(dimension.path, int(low), int(high), step=int(step or 1), log=dimension.log)
    value = trial.suggest_float(dimension.path, low, high, step=step, log=dimension.log)
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def _pruner(space: Space) -> BasePruner:
    """Epochs are compared by their hold-out loss, so it must mean the same in all trials."""
    tune = space.base.tune
    spoilt = [dimension.path for dimension in space.dimensions if dimension.path in _INCOMPARABLE]
    if spoilt and tune.pruner != "none":
        logger.info("no trial is ended early: losses within a training do not compare across values of %s", spoilt[0])
        return NopPruner()
    if tune.pruner == "median":
        return MedianPruner(n_startup_trials=tune.startup_trials)
    if tune.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=_most_epochs(space))
    return NopPruner()


def _most_epochs(space: Space) -> int:
    """Of any trial."""
    epochs = [space.base.train.epochs]
    for dimension in space.dimensions:
        if dimension.path == "train.epochs":
            epochs += [float(value) for value in dimension.samples() if isinstance(value, int | float)]
    return math.ceil(max(epochs))


def importances(study: optuna.Study) -> Mapping[str, float]:
    """Share of each path in what tells good trials from the rest (PED-ANOVA, arXiv:2304.10255); none of too few."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = {name for trial in trials for name in trial.params}
    if len(trials) < 4 or not varied:
        return {}
    return optuna.importance.get_param_importances(study)


def resume(study: optuna.Study, trial: FrozenTrial) -> Trial:
    """A trial that was left unfinished, to be reported to again."""
    return Trial(study, trial._trial_id)
