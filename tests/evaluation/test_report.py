"""The evaluation stage on a trained model."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from noria.artifacts import read_artifact
from noria.evaluation.judged import judge_classes, read_validation
from noria.evaluation.report import write_report
from tasks.evaluate import evaluate


@pytest.fixture(scope="module")
def report(trained):
    return evaluate.fn(trained)


def test_every_number_can_be_recomputed_from_the_predictions(report):
    metrics = json.loads((report.path / "metrics.json").read_text())
    rows = pq.read_table(report.path / "predictions.parquet").to_pylist()
    right = [row["label"] == row["predicted"] for row in rows]
    assert metrics["rows"] == len(rows) == 120
    assert metrics["accuracy"] == pytest.approx(np.mean(right), abs=1e-6)
    assert metrics["accuracy_interval"]["low"] <= metrics["accuracy"] <= metrics["accuracy_interval"]["high"]
    for name, part in metrics["slices"].items():
        inside = [ok for row, ok in zip(rows, right, strict=True) if row[f"slice_{name}"]]
        assert (part["rows"], part["accuracy"]) == (len(inside), pytest.approx(np.mean(inside), abs=1e-6))


def test_what_dvc_and_people_look_at_is_there(report, trained):
    with (report.path / "confusion.csv").open() as file:
        assert next(csv.reader(file)) == ["actual", "predicted"]
    for name in ("confusion.png", "reliability.png", "slices.png"):
        assert (report.path / name).stat().st_size > 5_000
    assert "| accuracy | **" in evaluate.summary(trained)


def test_equal_inputs_give_an_equal_report(report, trained):
    digest = report.digest
    assert evaluate.fn(trained).digest == digest


def test_a_class_that_the_model_never_saw_is_counted_as_wrong(trained, tmp_path):
    rows = read_validation(trained.splits)
    rows[0]["label"] = "neutral"
    outputs = [{"logits": np.zeros(2)} for _ in rows]
    judged = judge_classes(rows, outputs, target="label", labels=["neg", "pos"], slices=trained.scenario.slices)
    assert judged.labels == ("neg", "pos", "neutral")
    assert judged.predicted[0] != judged.targets[0]
    config = trained.config.evaluate
    write_report(tmp_path / "report", judged, config=config, seed=1, parents=())
    assert read_artifact(tmp_path / "report").counts["rows"] == len(rows)
