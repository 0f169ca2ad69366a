import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from training_fixtures import SCENARIO, tiny_checkpoint, tiny_config, tiny_rows, tiny_splits

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.data.rows import ShardWriter, row_schema
from noria.errors import ArtifactError, DiskFull, Preempted, TrainingError
from noria.evaluation.torch_run import torch_outputs
from noria.training import train
from noria.training.checkpoint import load_trained
from noria.training.data import TrainingSide
from noria.training.train import train_model


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_splits(tmp_path_factory.mktemp("tiny") / "splits")


@pytest.fixture(scope="module")
def checkpoint(splits: Artifact) -> Artifact:
    return tiny_checkpoint(splits.path.parent / "checkpoint", splits=splits, config=tiny_config())


def answers(path: Path, texts: list[str]) -> list[object]:
    trained = load_trained(path, scenario=SCENARIO)
    requests = [{"text": text} for text in texts]
    outputs = torch_outputs(trained.model, requests, encoder=trained.encoder)
    return [response["label"] for response in SCENARIO.decode(requests, outputs, trained.encoder)]


def test_it_learns_and_the_checkpoint_says_what_it_is(checkpoint: Artifact, splits: Artifact) -> None:
    assert answers(checkpoint.path, ["质量很好，值得购买", "质量太差，浪费钱"]) == ["pos", "neg"]
    assert checkpoint.parents == (splits.digest,)
    assert set(checkpoint.facts) >= {"precision", "best_epoch", "wide_accuracy", "deep_accuracy", "blend_accuracy"}
    assert checkpoint.counts["rows"] == 160 and 0 < checkpoint.counts["holdout"] < 80
    assert json.loads((checkpoint.path / "config.json").read_text())["train"]["epochs"] == 3
    assert not list(checkpoint.path.rglob("*.pkl")) and not list(checkpoint.path.rglob("*.pt"))


def test_training_again_gives_the_same_bytes(checkpoint: Artifact, splits: Artifact, tmp_path: Path) -> None:
    assert tiny_checkpoint(tmp_path / "again", splits=splits, config=tiny_config()).digest == checkpoint.digest
    assert not (tmp_path / "again-scratch").exists()


@pytest.mark.parametrize(
    "kill_after", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_killed_and_started_again_it_ends_at_bitwise_the_same_weights(
    kill_after: int, checkpoint: Artifact, tmp_path: Path
) -> None:
    tiny_splits(tmp_path / "splits")
    command = [sys.executable, str(Path(__file__).with_name("train_and_die.py")), str(tmp_path)]
    killed = subprocess.run([*command, str(kill_after)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "checkpoint").exists()
    assert list((tmp_path / "scratch" / "state").glob("state-*.safetensors"))
    subprocess.run([*command, "0"], check=True, capture_output=True)
    found = read_artifact(tmp_path / "checkpoint")
    assert found.files["model.safetensors"] == checkpoint.files["model.safetensors"]
    assert found.facts == checkpoint.facts


def test_a_changed_setting_starts_anew_instead_of_resuming(splits: Artifact, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, values: object) -> None:
        raise Stop

    scratch = tmp_path / "scratch"
    with pytest.raises(Stop):
        train_model(splits, tmp_path / "out", scenario=SCENARIO, config=tiny_config(), scratch=scratch, on_metrics=stop)
    config = tiny_config(lr=1e-3)
    anew = train_model(splits, tmp_path / "out", scenario=SCENARIO, config=config, scratch=scratch)
    assert anew.digest == tiny_checkpoint(tmp_path / "clean", splits=splits, config=config).digest


@pytest.mark.parametrize("settings", [{}, {"distributed": "ddp", "processes": 1}], ids=["alone", "before the ranks"])
def test_told_to_end_while_it_prepares_it_is_tried_again_and_says_nothing_of_a_state(
    settings: dict[str, object], splits: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, scratch = signal.getsignal(signal.SIGTERM), tmp_path / "scratch"
    monkeypatch.setattr(train, "_encode", lambda *given: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Preempted) as caught:
        train_model(splits, tmp_path / "out", scenario=SCENARIO, config=tiny_config(**settings), scratch=scratch)
    assert caught.value.exit_code == os.EX_TEMPFAIL and "state is saved" not in str(caught.value)
    assert not (scratch / "complete").exists() and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "error",
    [SafetensorError("I/O error: No space left on device (os error 28)"), OSError(errno.ENOSPC, "full")],
    ids=str,
)
def test_no_room_for_the_checkpoint_is_a_full_disk_which_no_rank_tries_again(
    error: Exception, splits: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise error

    monkeypatch.setattr("noria.training.checkpoint.save_file", full)
    with pytest.raises(DiskFull, match="no room for the trained model"):
        tiny_checkpoint(tmp_path / "out", splits=splits, config=tiny_config(epochs=1, pretrain={"epochs": 0}))
    assert list((tmp_path / "out-scratch" / "state").iterdir()) and not (tmp_path / "out").exists()


def test_other_code_starts_anew_instead_of_resuming(splits: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = set()
    for code in ("one", "another"):
        monkeypatch.setattr(train, "digest_training_code", lambda code=code: code)
        fingerprints.add(train._fingerprint(splits, tiny_config()))
    assert len(fingerprints) == 2


def test_the_validation_side_is_never_opened(checkpoint: Artifact, tmp_path: Path) -> None:
    blind = tiny_splits(tmp_path / "splits")
    for path in (blind.path / "validation").iterdir():
        path.write_bytes(b"not to be read")
    assert tiny_checkpoint(tmp_path / "blind", splits=blind, config=tiny_config()).digest == checkpoint.digest


def test_the_holdout_stays_as_rows_are_added_and_augmented_rows_never_judge(tmp_path: Path) -> None:
    def sides(name: str, rows: list[dict[str, object]]) -> tuple[set[object], int, int]:
        with ShardWriter(tmp_path / name, row_schema(SCENARIO.schema)) as writer:
            writer.write_rows(rows)
        side = TrainingSide(tmp_path / name, scenario=SCENARIO, holdout_share=0.2)
        encoder = SCENARIO.fit_encoder(side.fitting_rows(), tiny_config())
        encoded = side.encode(encoder, scratch=tmp_path / f"{name}-rows")
        assert len(encoded.classes(holdout=False)) == (~encoded.holdout).sum()
        return {row["id"] for row in side.fitting_rows()}, encoded.num_rows, int(encoded.holdout.sum())

    rows = tiny_rows(200)
    few, _, _ = sides("few", rows[:150])
    many, num_rows, num_held = sides("many", rows)
    assert few == many & {row["id"] for row in rows[:150]} and num_rows == 200
    children = [{**row, "id": f"child-{row['id']}", "parent_id": row["id"]} for row in rows]
    fitting, num_rows, still_held = sides("augmented", rows + children)
    assert still_held == num_held and num_rows == 400 - num_held
    assert fitting == many | {f"child-{identity}" for identity in many}


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "sgd", "lr": 0.05, "schedule": "wsd"},
        {"optimizer": "adam", "loss": "mse", "accumulate": 2, "schedule": "cosine"},
    ],
)
def test_every_optimizer_and_loss_trains(change: dict[str, object], splits: Artifact, tmp_path: Path) -> None:
    artifact = tiny_checkpoint(tmp_path / "c", splits=splits, config=tiny_config(epochs=1, **change))
    assert float(str(artifact.facts["blend_accuracy"])) > 0.9


def test_early_stopping_keeps_the_best_epoch(splits: Artifact, tmp_path: Path) -> None:
    steps: list[int] = []
    config = tiny_config(epochs=40, patience=1, optimizer="adamw", lr=0.03, schedule="constant", pretrain={"epochs": 0})
    artifact = train_model(
        splits,
        tmp_path / "c",
        scenario=SCENARIO,
        config=config,
        scratch=tmp_path / "s",
        on_metrics=lambda step, values: steps.append(step) if "holdout_loss" in values else None,
    )
    assert len(steps) < 40
    assert artifact.facts["best_epoch"] == len(steps) - 1


def test_a_loss_that_is_not_a_number_stops_training(splits: Artifact, tmp_path: Path) -> None:
    config = tiny_config(optimizer="sgd", lr=1e30, max_grad_norm=1e30, pretrain={"epochs": 0})
    with pytest.raises(TrainingError, match="the loss became"):
        tiny_checkpoint(tmp_path / "c", splits=splits, config=config)
    assert not (tmp_path / "c").exists()


def test_a_damaged_checkpoint_is_refused(splits: Artifact, tmp_path: Path) -> None:
    artifact = tiny_checkpoint(tmp_path / "c", splits=splits, config=tiny_config(epochs=1))
    weights = artifact.path / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="changed"):
        load_trained(artifact.path, scenario=SCENARIO)


@pytest.mark.parametrize("part", ["config.json", "encoder/encoder.json", "model.safetensors"])
def test_a_whole_checkpoint_of_another_version_is_refused(part: str, checkpoint: Artifact, tmp_path: Path) -> None:
    with write_artifact(tmp_path / "old", kind="checkpoint") as draft:
        shutil.copytree(checkpoint.path, draft.path, dirs_exist_ok=True)
        path = draft.path / part
        if part == "model.safetensors":
            save_file({"forgotten": torch.zeros(1)}, path)
        else:
            path.write_text(json.dumps({**json.loads(path.read_text()), "forgotten": 1}))
    with pytest.raises(ArtifactError, match=r"of this version|don't fit"):
        load_trained(tmp_path / "old", scenario=SCENARIO)


def test_cuda_where_there_is_none_is_a_clear_error(splits: Artifact, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(TrainingError, match="no CUDA device"):
        tiny_checkpoint(tmp_path / "c", splits=splits, config=tiny_config(device="cuda"))
