"""What a training is made from: rows, and where there are any, a model to start from and one to learn from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from noria.artifacts import Artifact, read_artifact
from noria.config import Config
from noria.errors import ArtifactError, ConfigError, TrainingError
from noria.scenarios.base import Encoder, Row, Scenario
from noria.training.checkpoint import Trained, load_trained

logger = logging.getLogger(__name__)

_BATCH_ROWS, _TARGETS_TOLD = 5_000, 10
_NONE, _CHAMPION = "none", "champion"
_COMPARED = ("scenario", "split.", "tokenizer.", "model.", "train.holdout_share")
_FITTED_ANYWAY = {"model.deep_weight", "model.wide.inverse_regularization"}
"""Settings that shape neither a weight nor the encoder, unless one is 0: the fits around the phases read them."""


@dataclass(frozen=True)
class Material:
    """What a training is made from.

    Attributes
    ----------
    start:
        A checkpoint: weights and encoder to start from.
    teacher:
        A bundle whose answers are learned beside the labels.
    """

    splits: Artifact
    start: Artifact | None = None
    teacher: Artifact | None = None

    @classmethod
    def at(cls, splits: Artifact, *, start: Path | None, teacher: Path | None) -> Material:
        """Read from these directories; what is used of them is verified where it is used."""
        return cls(splits, *(None if path is None else read_artifact(path, verify=False) for path in (start, teacher)))

    @property
    def predecessors(self) -> tuple[Artifact, ...]:
        """Start and teacher, as far as there are any."""
        return tuple(artifact for artifact in (self.start, self.teacher) if artifact is not None)

    @property
    def parents(self) -> tuple[Artifact, ...]:
        """All there are, the rows first."""
        return (self.splits, *self.predecessors)

    @property
    def paths(self) -> Mapping[str, str | None]:
        """For the job of another process."""
        named = {"splits": self.splits, "start": self.start, "teacher": self.teacher}
        return {name: None if artifact is None else str(artifact.path) for name, artifact in named.items()}

    @property
    def facts(self) -> Mapping[str, str]:
        """Digests for the checkpoint's manifest."""
        named = {"started_from": self.start, "taught_by": self.teacher}
        return {name: artifact.digest for name, artifact in named.items() if artifact is not None}


def as_found(config: Config, *, start: Path | None, teacher: Path | None) -> Config:
    """The configuration without a champion to start from or to learn from, where nothing is live yet.

    From scratch all parameters learn: low-rank updates of random matrices would make a poor model.
    """
    train = config.train
    if _missing("train.init_from", train.init_from, start):
        logger.info("no model is live yet: training starts from scratch, and everything learns")
        train = train.model_copy(update={"init_from": _NONE, "lora": train.lora.model_copy(update={"rank": 0})})
    if _missing("train.distill.teacher", train.distill.teacher, teacher):
        logger.info("no model is live yet: training goes on without a teacher")
        train = train.model_copy(update={"distill": train.distill.model_copy(update={"teacher": _NONE})})
    return config.model_copy(update={"train": train})


def load_start(start: Artifact, *, scenario: Scenario, config: Config) -> Trained:
    """The model to start from, verified, of the shape that `config` asks for, and fitted to no row that judges now.

    Its encoder comes with it: row i of an embedding belongs to token i of the vocabulary that it was
    trained with, and another vocabulary, fitted to newer rows, would give the rows to other tokens.

    Raises
    ------
    ArtifactError
        When it is damaged, or no checkpoint of this scenario and this version.
    TrainingError
        When its model, its tokenizer or its split has other settings.
    """
    try:
        trained = load_trained(start.path, scenario=scenario)
    except ArtifactError as error:
        raise ArtifactError(
            f"training can't start from this checkpoint: {error.what}",
            where=error.where,
            expected=error.expected,
            next_step="`train.init_from: none` trains anew",
        ) from error
    differing = [*_differences(trained.config, config)]
    if differing:
        raise TrainingError(
            f"the checkpoint to start from was made with other settings: {'; '.join(differing)}",
            where=str(start.path),
            expected="the same `model` and `tokenizer`, and the same rows to judge by",
            next_step="set them as they are there, or `train.init_from: none` to train anew; a teacher "
            "(`train.distill.teacher`) may have any size",
        )
    logger.info("starting from checkpoint %s", start.digest[:12])
    return trained


def check_targets(start: Artifact, rows: Iterable[Row], *, target: str, encoder: Encoder) -> None:
    """Refuse rows to fit whose targets the model to start from has no output for.

    Raises
    ------
    TrainingError
        When there are any.
    """
    remaining, unknown = iter(rows), set[str]()
    while batch := list(islice(remaining, _BATCH_ROWS)):
        learned = encoder.targets(batch)
        unknown |= {str(row[target]) for row, targets in zip(batch, learned, strict=True) if targets is None}
    if unknown:
        told = ", ".join(sorted(unknown)[:_TARGETS_TOLD])
        raise TrainingError(
            f"the training rows have labels that the model to start from does not know: {told}",
            where=str(start.path),
            expected="no others than it was trained on",
            next_step="`train.init_from: none` trains anew, with all labels; or correct them in the data",
        )


def _missing(key: str, value: str, path: Path | None) -> bool:
    """Whether the champion was asked for and there is none."""
    if value != _CHAMPION and (value == _NONE) != (path is None):
        raise ConfigError(
            f"`{key}: {value}` was not looked up",
            expected="a directory for it, from whoever starts the training",
            next_step="train by `noria run` or `python -m tasks.train`",
        )
    return value == _CHAMPION and path is None


def _differences(there: Config, here: Config) -> Iterator[str]:
    """`model.dim: 128 there, 256 here`, for what shapes weights and encoder, or says which rows judge."""
    old, new = (_flat(config.model_dump(mode="json")) for config in (there, here))
    for key in sorted(old.keys() | new.keys()):
        here_and_there = bool(old.get(key)) == bool(new.get(key))  # a branch of no weight is none
        if key in _FITTED_ANYWAY and here_and_there:
            continue
        if old.get(key) != new.get(key) and key.startswith(_COMPARED):
            yield f"{key}: {old.get(key)} there, {new.get(key)} here"


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
