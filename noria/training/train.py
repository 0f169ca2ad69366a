"""From the training side of a split to a checkpoint."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

import torch

import noria
from noria.artifacts import Artifact, digest_file, digest_of
from noria.config import Config
from noria.data.text_encoder import TextEncoder
from noria.model.text_classifier import TextClassifier
from noria.scenarios.base import Encoder, Scenario
from noria.training.checkpoint import save_trained
from noria.training.data import TrainingSide
from noria.training.job import Job, OnMetrics, run_job
from noria.training.probe import choose_device
from noria.training.state import StateStore

logger = logging.getLogger(__name__)

_CODE = ("data", "model", "scenarios", "training")


def train_model(
    splits: Artifact,
    output: Path,
    *,
    scenario: Scenario,
    config: Config,
    scratch: Path,
    on_metrics: OnMetrics = lambda step, values: None,
) -> Artifact:
    """Train on the `train` side of `splits`, write the checkpoint to `output`.

    Killed at any point and called again, it goes on where it was last saved, to bitwise the same
    weights on the CPU.

    Parameters
    ----------
    scratch:
        Resumable state and encoded rows; removed when the checkpoint is complete.
    on_metrics:
        Is told every point of the learning curves; a resumed run tells the earlier ones again.

    Raises
    ------
    TrainingError
        When the rows, the device or the loss don't allow it.
    """
    device = choose_device(config.train)
    side = TrainingSide(splits.path / "train", scenario=scenario, holdout_share=config.train.holdout_share)
    encoder = scenario.fit_encoder(side.fitting_rows(), config)
    assert isinstance(encoder, TextEncoder), "the phases of this trainer are those of text classifiers"
    rows = side.encode(encoder, scratch=scratch / "rows")
    logger.info("%d training rows, %d of them held out", len(rows.classes), int(rows.holdout.sum()))
    model = _build(scenario, encoder, config).to(device)
    store = StateStore(scratch / "state", fingerprint=_fingerprint(splits, config))
    job = Job(
        config=config, model=model, rows=rows, clause_ends=encoder.clause_ends, store=store, on_metrics=on_metrics
    )
    facts = run_job(job)
    artifact = save_trained(
        output,
        model=model.cpu(),
        encoder=encoder,
        config=config,
        parents=(splits,),
        counts={
            "rows": len(rows.classes),
            "holdout": int(rows.holdout.sum()),
            "parameters": sum(param.numel() for param in model.parameters()),
        },
        facts=facts,
    )
    shutil.rmtree(scratch)
    return artifact


def _build(scenario: Scenario, encoder: Encoder, config: Config) -> TextClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = scenario.build_model(config, encoder)
    assert isinstance(model, TextClassifier)
    return model


def _fingerprint(splits: Artifact, config: Config) -> str:
    """Changes with anything that a saved state depends on."""
    rows = digest_of({name: digest for name, digest in splits.files.items() if name.startswith("train/")})
    settings = config.model_dump_json(include={"scenario", "seed", "tokenizer", "model", "train"})
    return hashlib.sha256(f"{rows}\0{settings}\0{_code_digest()}\0{torch.__version__}".encode()).hexdigest()


def _code_digest() -> str:
    """Of what encodes the rows, builds the model and trains it: another version of it starts anew."""
    root = Path(noria.__file__).parent
    files = (path for package in _CODE for path in (root / package).glob("*.py"))
    return digest_of({path.relative_to(root).as_posix(): digest_file(path) for path in files})
