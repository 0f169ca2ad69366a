"""Every kind of model goes all the way: trained, exported with parity, chosen, opened, and asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from training_fixtures import SCENARIO, TINY, tiny_checkpoint, tiny_splits

from noria.config import Config
from noria.export.optimize import optimize_checkpoint
from noria.serving.bundle import open_bundle
from noria.serving.golden import prove
from noria.serving.predictor import Predictor

pytestmark = pytest.mark.slow


def config(*, model: Mapping[str, object], train: Mapping[str, object]) -> Config:
    return Config.model_validate(
        {
            **TINY,
            "model": {**TINY["model"], **model},
            "train": {**TINY["train"], "epochs": 1, **train},
            "evaluate": {"resamples": 50},
            "optimize": {"latency_repeats": 5, "max_quality_drop": 0.2, "max_slice_drop": 0.5},
        }
    )


@pytest.mark.parametrize(
    ("model", "train", "least"),
    [
        pytest.param({"wide": {"enabled": False}}, {"optimizer": "adamw"}, 0.7, id="the Transformer alone"),
        pytest.param({"deep_weight": 0}, {}, 0.9, id="n-grams alone"),
        pytest.param({"positions": "rotary", "bigram_buckets": 0}, {"loss": "mse"}, 0.6, id="rotary, squared loss"),
    ],
)
def test_it_is_trained_exported_and_served(
    model: Mapping[str, object], train: Mapping[str, object], least: float, tmp_path: Path
) -> None:
    splits = tiny_splits(tmp_path / "splits")
    settings = config(model=model, train=train)
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", splits=splits, config=settings)
    bundle = optimize_checkpoint(
        checkpoint,
        splits,
        tmp_path / "bundle",
        tmp_path / "report",
        scenario=SCENARIO,
        config=settings,
        git_commit=None,
    )
    predictor = Predictor(open_bundle(bundle.path))
    assert prove(predictor) == 7
    metrics = bundle.facts["metrics"]
    assert isinstance(metrics, Mapping) and metrics["accuracy"] >= least
