"""Training that starts from an earlier checkpoint: its weights, its encoder, and nothing that does not fit."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_fixtures import SCENARIO, tiny_config, tiny_rows, tiny_splits

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import Config
from noria.data.rows import ShardWriter, row_schema
from noria.errors import ArtifactError, TrainingError
from noria.evaluation.judged import read_validation
from noria.evaluation.metrics import main_metric, value
from noria.evaluation.torch_run import torch_outputs
from noria.model.lora import low_rank
from noria.training import train
from noria.training.checkpoint import load_trained
from noria.training.train import train_model

FRESH = {"pretrain": {"epochs": 0}, "optimizer": "adamw"}
NO_WIDE = {"enabled": False}


def config_of(*, init_from: str = "champion", model: dict[str, object] | None = None, **more: object) -> Config:
    config = tiny_config(init_from=init_from, **{**FRESH, **more})
    return Config.model_validate({**config.model_dump(), "model": {**config.model.model_dump(), **(model or {})}})


def splits_of(path: Path, rows: list[dict[str, object]]) -> Artifact:
    with write_artifact(path, kind="splits") as draft:
        for side, members in (("train", rows[:-40]), ("validation", rows[-40:])):
            with ShardWriter(draft.path / side, row_schema(SCENARIO.schema)) as writer:
                writer.write_rows(members)
    return read_artifact(path)


def run(splits: Artifact, output: Path, config: Config, start: Artifact | None, **more: object) -> Artifact:
    start_path = start and start.path
    scratch = output.with_name(f"{output.name}-scratch")
    return train_model(splits, output, scenario=SCENARIO, config=config, scratch=scratch, start=start_path, **more)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_splits(tmp_path_factory.mktemp("warm") / "splits")


@pytest.fixture(scope="module")
def start(splits: Artifact) -> Artifact:
    config = config_of(init_from="none", pretrain={"epochs": 2, "batch_tokens": 256})
    return run(splits, splits.path.parent / "start", config, None)


@pytest.fixture(scope="module")
def deep_start(splits: Artifact) -> Artifact:
    """Without the linear branch, which would learn any change by itself."""
    config = config_of(init_from="none", model={"wide": NO_WIDE})
    return run(splits, splits.path.parent / "deep-start", config, None)


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Other rows, in which good is called bad."""
    swapped = {"pos": "neg", "neg": "pos"}
    rows = [{**row, "label": swapped[str(row["label"])]} for row in tiny_rows(300, seed=5)]
    return splits_of(tmp_path_factory.mktemp("inverted") / "splits", rows)


def quality(checkpoint: Artifact, splits: Artifact) -> float:
    trained = load_trained(checkpoint.path, scenario=SCENARIO)
    rows = read_validation(splits.path)
    outputs = torch_outputs(trained.model, rows, encoder=trained.encoder)
    judged = SCENARIO.judge(rows, outputs, trained.encoder)
    return value(main_metric(judged)[1], judged)


def test_weights_and_encoder_are_those_of_the_start(start: Artifact, inverted: Artifact, tmp_path: Path) -> None:
    still = config_of(lr=1e-12, weight_decay=0.0, epochs=1)
    warm = run(inverted, tmp_path / "warm", still, start)
    before, after = (load_file(artifact.path / "model.safetensors") for artifact in (start, warm))
    deep = [name for name in before if name.startswith("deep.")]
    assert deep and all(torch.allclose(before[name], after[name], atol=1e-6) for name in deep)
    assert not torch.allclose(before["wide.bias"], after["wide.bias"])  # the linear branch is fitted anew
    encoders = [{n: d for n, d in a.files.items() if n.startswith("encoder/")} for a in (start, warm)]
    assert encoders[0] == encoders[1]


def test_the_checkpoint_says_what_it_started_from(start: Artifact, splits: Artifact, tmp_path: Path) -> None:
    warm = run(splits, tmp_path / "warm", config_of(epochs=1), start)
    assert warm.facts["started_from"] == start.digest
    assert warm.parents == (splits.digest, start.digest)
    assert "started_from" not in start.facts and start.parents == (splits.digest,)


def test_without_a_champion_it_trains_from_scratch_and_says_so(
    splits: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="noria"):
        found = run(splits, tmp_path / "champion", config_of(epochs=1, lora={"rank": 2}), None)
    assert "no model is live yet: training starts from scratch" in caplog.text
    assert found.digest == run(splits, tmp_path / "none", config_of(init_from="none", epochs=1), None).digest


def test_a_start_of_other_settings_is_refused_and_what_differs_is_named(
    start: Artifact, splits: Artifact, tmp_path: Path
) -> None:
    other = config_of(model={"dim": 32, "layers": 2})
    with pytest.raises(TrainingError) as caught:
        run(splits, tmp_path / "other", other, start)
    assert "model.dim: 16 there, 32 here; model.layers: 1 there, 2 here" in str(caught.value)
    assert "wide" not in str(caught.value)
    regularized = config_of(epochs=1, model={"deep_weight": 0.5})  # of the blend, which is made anew
    assert run(splits, tmp_path / "regularized", regularized, start).facts["started_from"] == start.digest


def test_a_start_without_the_branch_is_refused_by_its_weight(start: Artifact, splits: Artifact, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"model\.deep_weight: 1\.0 there, 0\.0 here"):
        run(splits, tmp_path / "wide-only", config_of(model={"deep_weight": 0.0}), start)


@pytest.mark.parametrize("key", ["split.validation_share", "train.holdout_share"])
def test_a_start_that_was_fitted_to_rows_that_judge_now_is_refused(
    key: str, start: Artifact, splits: Artifact, tmp_path: Path
) -> None:
    section, name = key.split(".")
    plain = config_of().model_dump()
    plain[section][name] = 0.3
    with pytest.raises(TrainingError, match=f"{key}: 0.* there, 0.3 here"):
        run(splits, tmp_path / "other", Config.model_validate(plain), start)


def test_labels_that_the_start_does_not_know_are_refused_by_name(start: Artifact, tmp_path: Path) -> None:
    rows = tiny_rows(200)
    for row in rows[:20]:
        row["label"] = "mixed"
    with pytest.raises(TrainingError, match="does not know: mixed") as caught:
        run(splits_of(tmp_path / "splits", rows), tmp_path / "out", config_of(), start)
    assert "train.init_from: none" in str(caught.value)


def test_a_damaged_start_is_refused(splits: Artifact, tmp_path: Path) -> None:
    begun = run(splits, tmp_path / "begun", config_of(init_from="none", epochs=1), None)
    (begun.path / "encoder" / "encoder.json").write_text("{}")
    with pytest.raises(ArtifactError, match="training can't start from this checkpoint"):
        run(splits, tmp_path / "out", config_of(), begun)


def test_a_quick_update_by_low_rank_trains_a_fraction_and_learns_what_changed(
    deep_start: Artifact, inverted: Artifact, tmp_path: Path
) -> None:
    config = config_of(model={"wide": NO_WIDE}, lora={"rank": 2}, epochs=8, lr=0.02, token_mask=0.0, clause_shuffle=0.0)
    trained = load_trained(deep_start.path, scenario=SCENARIO)
    deep = trained.model.deep
    every = sum(param.numel() for param in deep.parameters())
    with low_rank(deep, deep.encoder, head=deep.head, config=config.train.lora, seed=1):
        learning = sum(param.numel() for param in deep.parameters() if param.requires_grad)
    assert learning < every / 4

    updated = run(inverted, tmp_path / "updated", config, deep_start)
    assert quality(deep_start, inverted) < 0.2
    assert quality(updated, inverted) > 0.9
    before, after = (load_file(artifact.path / "model.safetensors") for artifact in (deep_start, updated))
    assert before.keys() == after.keys()
    assert torch.equal(before["deep.frontend.tokens"], after["deep.frontend.tokens"])
    moved = [name for name in before if "deep.encoder" in name and not torch.equal(before[name], after[name])]
    assert moved
    for name in moved:
        assert int(torch.linalg.matrix_rank(after[name] - before[name], atol=1e-4).max()) <= 2


def test_a_stopped_training_goes_on_from_its_own_start_and_never_from_another(
    start: Artifact, deep_start: Artifact, splits: Artifact, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, values: object) -> None:
        if step > 2:
            raise Stop

    config = config_of(epochs=2, checkpoint_every_s=1e-6)
    with pytest.raises(Stop):
        run(splits, tmp_path / "out", config, start, on_metrics=stop)
    assert list((tmp_path / "out-scratch" / "state").glob("state-*.safetensors"))
    went_on = run(splits, tmp_path / "out", config, start)
    assert went_on.digest == run(splits, tmp_path / "through", config, start).digest
    prints = [train._fingerprint(splits, config, *others) for others in ((), (start,), (deep_start,))]
    assert len(set(prints)) == 3


@pytest.mark.slow
def test_ranks_start_from_the_same_checkpoint(start: Artifact, splits: Artifact, tmp_path: Path) -> None:
    config = config_of(epochs=1, distributed="ddp", processes=1)
    ranks = run(splits, tmp_path / "ranks", config, start)
    alone = run(splits, tmp_path / "alone", config_of(epochs=1), start)
    assert ranks.facts["started_from"] == start.digest
    weights = [load_file(artifact.path / "model.safetensors") for artifact in (ranks, alone)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])


@pytest.mark.slow
def test_a_trial_starts_from_the_directory_that_its_configuration_names(
    start: Artifact, splits: Artifact, tmp_path: Path
) -> None:
    job = {
        "splits": str(splits.path),
        "output": str(tmp_path / "out"),
        "scratch": str(tmp_path / "scratch"),
        "events": str(tmp_path / "events.jsonl"),
        "config": config_of(init_from=str(start.path), epochs=1).model_dump(mode="json"),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-m", "noria.training.worker", str(tmp_path / "job.json")]
    subprocess.run(command, check=True, capture_output=True)
    assert read_artifact(tmp_path / "out").facts["started_from"] == start.digest
