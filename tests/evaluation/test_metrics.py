"""Metrics against their textbook definitions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from noria.evaluation.judged import Judged
from noria.evaluation.metrics import CLASSIFICATION, REGRESSION, class_scores, confusion, value


def classes(targets: np.ndarray, outputs: np.ndarray) -> Judged:
    """Rows of three classes."""
    ids = tuple(map(str, range(len(targets))))
    return Judged(ids, targets, outputs, ("a", "b", "c"), {}, metrics=CLASSIFICATION, trivial=np.zeros_like(outputs))


@pytest.fixture
def three_classes() -> Judged:
    generator = np.random.default_rng(3)
    outputs = generator.dirichlet([0.5, 0.5, 0.5], size=400)
    targets = np.array([generator.choice(3, p=row) for row in outputs])
    return classes(targets, outputs)


def test_classification_metrics_equal_those_of_scikit_learn(three_classes):
    truth, said, scores = three_classes.targets, three_classes.predicted, three_classes.outputs
    found = {name: value(metric, three_classes) for name, metric in CLASSIFICATION.items()}
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(reference.f1_score(truth, said, average="macro"))
    assert found["log_loss"] == pytest.approx(reference.log_loss(truth, scores))
    assert (confusion(three_classes) == reference.confusion_matrix(truth, said)).all()
    precision, recall, f1, rows = reference.precision_recall_fscore_support(truth, said)
    for i, score in enumerate(class_scores(three_classes)):
        assert (score.precision, score.recall, score.f1) == pytest.approx((precision[i], recall[i], f1[i]))
        assert score.rows == rows[i]


def test_a_calibrated_model_has_a_small_calibration_error_and_a_boaster_a_large_one(three_classes):
    boaster = classes(three_classes.targets, np.eye(3)[three_classes.predicted])
    honest = value(CLASSIFICATION["calibration_error"], three_classes)
    boast = value(CLASSIFICATION["calibration_error"], boaster)
    assert honest < 0.06
    assert boast == pytest.approx(1 - value(CLASSIFICATION["accuracy"], boaster))


def test_regression_metrics_equal_those_of_scikit_learn():
    generator = np.random.default_rng(4)
    truth = generator.normal(1e6, 1.0, size=200)  # far from zero: a careless variance would cancel
    said = truth + generator.normal(0, 0.3, size=200)
    judged = Judged(tuple(map(str, range(200))), truth, said, (), {}, metrics=REGRESSION, trivial=np.zeros(200))
    found = {name: value(metric, judged) for name, metric in REGRESSION.items()}
    assert found["r2"] == pytest.approx(reference.r2_score(truth, said))
    assert found["mse"] == pytest.approx(reference.mean_squared_error(truth, said))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, said))


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_a_weight_of_two_counts_a_row_twice(three_classes, name):
    weights = np.random.default_rng(5).integers(0, 3, size=400)
    rows = np.repeat(np.arange(400), weights)
    repeated = classes(three_classes.targets[rows], three_classes.outputs[rows])
    metric = CLASSIFICATION[name]
    assert metric(three_classes, weights[None].astype(float))[0] == pytest.approx(value(metric, repeated))
