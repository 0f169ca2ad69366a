"""Learning from a teacher: a real bundle, and students of another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from training_fixtures import SCENARIO, tiny_config

from noria.artifacts import Artifact, read_artifact
from noria.config import Config, SplitConfig, TrainConfig
from noria.errors import BundleError, ConfigError, TrainingError
from noria.evaluation.inference import logits_of, softmax
from noria.evaluation.judged import read_validation
from noria.evaluation.torch_run import torch_outputs
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.training.checkpoint import load_trained
from noria.training.data import ANSWERS, TrainingSide
from noria.training.distill import write_answers
from noria.training.train import train_model
from noria.workspace import Workspace


def student(**distill: object) -> Config:
    """Another model than the teacher's: narrower, of another vocabulary, and without a linear branch."""
    config = tiny_config(
        epochs=6,
        token_mask=0.0,
        clause_shuffle=0.0,
        pretrain={"epochs": 0},
        holdout_share=TrainConfig().holdout_share,  # the teacher's
        distill=distill,
    )
    narrow = config.model.model_copy(update={"dim": 8, "wide": config.model.wide.model_copy(update={"enabled": False})})
    return config.model_copy(update={"model": narrow})


def train_student(workspace: Workspace, output: Path, config: Config, *, teacher: Path | None) -> Artifact:
    return train_model(
        read_artifact(workspace.splits),
        output,
        scenario=SCENARIO,
        config=config,
        scratch=output.with_name("scratch"),
        teacher=teacher,
    )


def fitting_rows(workspace: Workspace, *, holdout_share: float = 0.2) -> list[dict[str, object]]:
    side = TrainingSide(workspace.splits / "train", scenario=SCENARIO, holdout_share=holdout_share)
    return [dict(row) for row in side.fitting_rows()]


def test_the_answers_are_the_teachers_in_the_order_of_the_rows_and_of_our_labels(
    optimized: Workspace, tmp_path: Path
) -> None:
    rows = fitting_rows(optimized)
    bundle = open_bundle(optimized.bundle)
    theirs = SCENARIO.labels(bundle.encoder)
    target = tmp_path / ANSWERS
    write_answers(
        target,
        bundle.artifact,
        iter(rows),
        num_rows=len(rows),
        labels=tuple(reversed(theirs)),
        scenario=SCENARIO,
        split=bundle.split,
        holdout_share=bundle.holdout_share,
    )
    answers = np.load(target)
    assert answers.dtype == np.float32 and answers.shape == (len(rows), len(theirs))
    assert np.allclose(
        answers[:, ::-1], logits_of(Predictor(bundle).outputs(rows)), atol=0.05
    )  # int8: moves with the batch
    right = [reversed_label(theirs, row) for row in answers] == np.asarray([row["label"] for row in rows])
    assert right.mean() > 0.8


def reversed_label(labels: tuple[str, ...], answers: np.ndarray) -> str:
    return tuple(reversed(labels))[int(answers.argmax())]


def test_a_student_with_a_teacher_answers_more_like_it_than_one_without(optimized: Workspace, tmp_path: Path) -> None:
    rows = read_validation(optimized.splits)
    taught = softmax(logits_of(Predictor(open_bundle(optimized.bundle)).outputs(rows)))

    def distance(name: str, config: Config, teacher: Path | None) -> float:
        artifact = train_student(optimized, tmp_path / name, config, teacher=teacher)
        trained = load_trained(artifact.path, scenario=SCENARIO)
        answers = softmax(logits_of(torch_outputs(trained.model, rows, encoder=trained.encoder)))
        return float((taught * np.log(taught / answers)).sum(1).mean())

    alone = distance("alone", student(), None)
    with_teacher = distance("taught", student(teacher=str(optimized.bundle), weight=1.0), optimized.bundle)
    assert with_teacher < 0.8 * alone
    taught_by = read_artifact(tmp_path / "taught")
    bundle = read_artifact(optimized.bundle)
    assert taught_by.facts["taught_by"] == bundle.digest
    assert taught_by.parents == (read_artifact(optimized.splits).digest, bundle.digest)


def test_without_a_teacher_nothing_changes(optimized: Workspace, tmp_path: Path) -> None:
    plain = train_student(optimized, tmp_path / "plain", student(), teacher=None)
    other = train_student(optimized, tmp_path / "other", student(weight=0.9, temperature=7.0), teacher=None)
    none_live = train_student(optimized, tmp_path / "none", student(teacher="champion"), teacher=None)
    assert plain.files["model.safetensors"] == other.files["model.safetensors"]
    assert none_live.digest == plain.digest  # and its config.json says that there was none
    assert "taught_by" not in plain.facts and len(plain.parents) == 1


def test_a_teacher_of_other_labels_is_refused_by_name(optimized: Workspace, tmp_path: Path) -> None:
    bundle = read_artifact(optimized.bundle)
    with pytest.raises(TrainingError, match="only one of the two tells neutral") as caught:
        write_answers(
            tmp_path / ANSWERS,
            bundle,
            [],
            num_rows=0,
            labels=("neg", "neutral", "pos"),
            scenario=SCENARIO,
            split=SplitConfig(),
            holdout_share=TrainConfig().holdout_share,
        )
    assert "train.distill.teacher" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "changes"), [("split", {"validation_share": 0.2}), ("train", {"holdout_share": 0.2})]
)
def test_a_teacher_that_learned_from_rows_that_judge_now_is_refused(
    section: str, changes: dict[str, float], optimized: Workspace, tmp_path: Path
) -> None:
    config = student(teacher="x")
    larger = config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})
    with pytest.raises(TrainingError, match="may have learned from rows that judge now"):
        train_student(optimized, tmp_path / "a", larger, teacher=optimized.bundle)


def test_a_damaged_teacher_and_a_checkpoint_in_its_place_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a checkpoint, not a bundle"):
        train_student(workspace, tmp_path / "a", student(teacher="x"), teacher=workspace.checkpoint)
    (workspace.bundle / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="can't be trusted"):
        train_student(workspace, tmp_path / "b", student(teacher="x"), teacher=workspace.bundle)


def test_a_teacher_that_nobody_looked_up_is_refused(optimized: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="was not looked up"):
        train_student(optimized, tmp_path / "a", student(teacher="some/bundle"), teacher=None)
