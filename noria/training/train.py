"""From the training side of a split to a checkpoint."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from noria.artifacts import Artifact, digest_of, digest_training_code, read_artifact
from noria.config import Config
from noria.errors import NoriaError, TrainingError
from noria.scenarios.base import Encoder, Scenario
from noria.training.checkpoint import Trained, save_trained
from noria.training.data import ANSWERS, TrainingRows, TrainingSide, open_training_rows
from noria.training.distill import write_answers
from noria.training.distributed import Ranks, joined, started_by_torchrun, whole
from noria.training.guards import preemptible
from noria.training.launch import launch
from noria.training.meter import over_ranks, resources_of
from noria.training.probe import choose_device
from noria.training.run import Job, OnMetrics, Outcome, run_job
from noria.training.start import Material, as_found, check_targets, load_start
from noria.training.state import Point, StateStore

logger = logging.getLogger(__name__)

_IRRELEVANT = {
    "distributed",
    "processes",
    "nodes",
    "rendezvous",
    "max_restarts",
    "checkpoint_every_s",
    "price_per_hour",
}
"""Settings that a training may be resumed with another value of."""
_ENCODER, _ROWS, _COMPLETE = "encoder", "rows", "complete"

OnResources = Callable[[Mapping[str, object]], None]
"""Is told once, at the end, what the training used and how it ran."""
OnHistory = Callable[[Sequence[Point]], None]
"""Is told once, at the end, the learning curves without what a rollback undid."""


@dataclass(frozen=True)
class Prepared:
    """The training rows in tensors, what made them so, the model to start from, and the fingerprint of it all."""

    start: Trained | None
    encoder: Encoder
    rows: TrainingRows
    fingerprint: str


@preemptible()
def train_model(
    splits: Artifact,
    output: Path,
    *,
    scenario: Scenario,
    config: Config,
    scratch: Path,
    start: Path | None = None,
    teacher: Path | None = None,
    on_metrics: OnMetrics = lambda step, values: None,
    on_resources: OnResources = lambda resources: None,
    on_history: OnHistory = lambda points: None,
) -> Artifact:
    """Train on the `train` side of `splits`, write the checkpoint to `output`.

    Killed at any point and called again, it goes on where it was last saved, to bitwise the same
    weights on the CPU. With `train.distributed` it starts its ranks and waits for them; called by
    torchrun, it is one of them. Every host keeps the state, and ends with the checkpoint.

    Parameters
    ----------
    scratch:
        Resumable state and encoded rows; removed when the checkpoint is complete.
    start, teacher:
        The directories that `train.init_from` and `train.distill.teacher` stand for; None where nothing is live yet.
    on_metrics:
        Is told every point of the learning curves; a resumed run tells the earlier ones again.

    Raises
    ------
    Preempted
        When the process was told to end, wherever it was; in the steps of a phase, the state is saved first.
    DiskFull
        When there is no room for the checkpoint.
    TrainingError
        When the rows, the start, the teacher, the device or the loss don't allow it.
    """
    config = as_found(config, start=start, teacher=teacher)
    material = Material.at(splits, start=start, teacher=teacher)
    if config.train.distributed != "none" and not started_by_torchrun():
        _prepare(material, scenario, config, scratch, Ranks())  # what is wrong with the rows needs no ranks to say it
        launch(
            material,
            output,
            config=config,
            scratch=scratch,
            on_metrics=on_metrics,
            on_resources=on_resources,
            on_history=on_history,
        )
    else:
        with joined(cuda=config.train.device != "cpu" and torch.cuda.is_available()) as ranks:
            outcome = _train(material, output, scenario, config, scratch, on_metrics, ranks)
            usage = over_ranks(ranks.gather(outcome.usage))
            if ranks.leads:
                train = config.train
                used = resources_of(usage, price_per_hour=train.price_per_hour, nodes=train.nodes)
                on_history(outcome.history)
                on_resources({**used, **outcome.choices, "ranks": ranks.size, "mfu": dict(outcome.mfu) or None})
            if not ranks.leads:
                return splits  # a rank among others makes nothing of its own
    if not started_by_torchrun():  # ranks may be started again until all have ended
        shutil.rmtree(scratch)
    return read_artifact(output, verify=False)


def _train(
    material: Material,
    output: Path,
    scenario: Scenario,
    config: Config,
    scratch: Path,
    on_metrics: OnMetrics,
    ranks: Ranks,
) -> Outcome:
    device = choose_device(config.train, local_rank=ranks.local_rank)
    prepared = _prepare(material, scenario, config, scratch, ranks)
    rows = prepared.rows
    model = _build(scenario, prepared.encoder, config, prepared.start).to(device)
    store = StateStore(scratch / "state", fingerprint=prepared.fingerprint, writes=ranks.leads)
    outcome = run_job(
        Job(
            config=config.train,
            seed=config.seed,
            model=model,
            recipe=scenario.recipe(config, prepared.encoder, rows, model),
            row_id=rows.row_id,
            store=store,
            on_metrics=on_metrics,
            device=device,
            ranks=ranks,
        )
    )
    weights = {name: whole(tensor.detach()).cpu() for name, tensor in model.state_dict().items()}
    if ranks.leads:
        save_trained(
            output,
            weights=weights,
            encoder=prepared.encoder,
            config=config,
            parents=material.parents,
            counts={
                "rows": rows.num_rows,
                "holdout": int(rows.holdout.sum()),
                "parameters": sum(param.numel() for param in model.parameters()),
            },
            facts={**outcome.facts, **material.facts},
        )
    return outcome


def _prepare(material: Material, scenario: Scenario, config: Config, scratch: Path, ranks: Ranks) -> Prepared:
    """Make encoder, encoded rows and answers, once for all ranks of a host and for the runs that go on from here."""
    fingerprint = _fingerprint(material.splits, config, *material.predecessors)
    _check_alike(ranks.gather(fingerprint))
    start = load_start(material.start, scenario=scenario, config=config) if material.start else None
    complete, failed = scratch / _COMPLETE, None
    if ranks.leads and not (complete.is_file() and complete.read_text() == fingerprint):
        complete.unlink(missing_ok=True)
        for left in (_ENCODER, _ROWS):
            shutil.rmtree(scratch / left, ignore_errors=True)
        try:
            _encode(material, start, scenario, config, scratch)
            complete.write_text(fingerprint)
        except NoriaError as error:
            failed = error
    ranks.raise_any(failed)
    encoder = scenario.load_encoder(scratch / _ENCODER)
    return Prepared(start, encoder, open_training_rows(scratch / _ROWS), fingerprint)


def _check_alike(fingerprints: Sequence[str]) -> None:
    if len(set(fingerprints)) > 1:
        raise TrainingError(
            "the hosts of this training do not train the same",
            where="train.nodes",
            expected="the same training rows, `params.yaml`, Noria and PyTorch on each",
            next_step="bring every host to the same commit, `dvc pull` there, and start all of them again",
        )


def _encode(material: Material, start: Trained | None, scenario: Scenario, config: Config, scratch: Path) -> None:
    """Fit the encoder, or take that of the start; encode the rows; have the teacher answer those to fit."""
    side = TrainingSide(material.splits.path / "train", scenario=scenario, holdout_share=config.train.holdout_share)
    encoder = scenario.fit_encoder(side.fitting_rows(), config) if start is None else start.encoder
    if material.start is not None and scenario.labels is not None:
        check_targets(material.start, side.fitting_rows(), target=scenario.target, encoder=encoder)
    rows = side.encode(encoder, scratch=scratch / _ROWS)
    num_held = int(rows.holdout.sum())
    logger.info("%s training rows, %s of them held out", f"{rows.num_rows:,}", f"{num_held:,}")
    (scratch / _ENCODER).mkdir(exist_ok=True)
    encoder.save(scratch / _ENCODER)
    if material.teacher is not None:
        write_answers(
            scratch / _ROWS / ANSWERS,
            material.teacher,
            side.fitting_rows(),
            num_rows=rows.num_rows - num_held,
            labels=scenario.labels(encoder) if scenario.labels else (),
            scenario=scenario,
            split=config.split,
            holdout_share=config.train.holdout_share,
        )


def _build(scenario: Scenario, encoder: Encoder, config: Config, start: Trained | None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = scenario.build_model(config, encoder)
    if start is not None:
        model.load_state_dict(start.model.state_dict())
    return model


def _fingerprint(splits: Artifact, config: Config, *predecessors: Artifact) -> str:
    """Changes with anything that a saved state depends on."""
    rows = digest_of({name: digest for name, digest in splits.files.items() if name.startswith("train/")})
    rows = "\0".join([rows, *(artifact.digest for artifact in predecessors)])
    settings = config.model_copy(
        update={"train": config.train.model_copy(update=dict.fromkeys(_IRRELEVANT))}
    ).model_dump_json(include={"scenario", "seed", "tokenizer", "model", "train"}, warnings=False)
    return hashlib.sha256(f"{rows}\0{settings}\0{digest_training_code()}\0{torch.__version__}".encode()).hexdigest()
