"""Names come from people's data: whatever is in them is drawn as it is, and never as a formula."""

import numpy as np

from noria.config import DriftConfig
from noria.evaluation.bootstrap import Estimate
from noria.evaluation.judged import Judged
from noria.evaluation.metrics import CLASSIFICATION
from noria.evaluation.pictures import draw_confusion, draw_slices
from noria.evaluation.slices import SliceScore
from noria.monitoring.drift import Sample, find_drift
from noria.monitoring.features import Columns
from noria.monitoring.pictures import draw_drift, draw_shifts

FORMULA = r"$\no{formula$"


def test_a_label_that_looks_like_a_formula_ends_no_stage(tmp_path):
    outputs = np.eye(2)
    judged = Judged(
        ("a", "b"), np.array([0, 1]), outputs, (FORMULA, "other"), {}, metrics=CLASSIFICATION, trivial=outputs
    )
    draw_confusion(judged, tmp_path / "confusion.png")
    draw_slices([SliceScore(FORMULA, 9, Estimate(0.5, 0.4, 0.6), True)], 0.5, "accuracy", tmp_path / "slices.png")


def test_neither_does_a_new_one_that_arrives(tmp_path):
    old, new = (
        Sample(Columns({}, {f"target: {FORMULA}": labels}), Columns({}, {}), np.zeros((0, 4), np.float32))
        for labels in (["a"] * 90 + [FORMULA] * 10, ["a"] * 10 + [FORMULA] * 90)
    )
    found = find_drift(old, new, config=DriftConfig(), seed=0)
    assert found[0].drifted
    draw_drift(found, tmp_path / "drift.png")
    draw_shifts(old, new, found, tmp_path / "shifts.png")
