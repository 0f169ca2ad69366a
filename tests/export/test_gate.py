"""What a form may lose against PyTorch: the point decides over all rows, a slice needs more than noise."""

from __future__ import annotations

import numpy as np
import pytest

from noria.config import EvaluateConfig, OptimizeConfig
from noria.evaluation.judged import Judged, judge_classes
from noria.export.gate import Loss, loss_of

EVALUATE = EvaluateConfig(resamples=200, min_slice_rows=20)
BUDGET = OptimizeConfig(max_quality_drop=0.01, max_slice_drop=0.03)


def judged(num_rows: int, *, wrong: set[int], in_slice: int = 0) -> Judged:
    """Rows of class "a", of which some are said to be "b"; the first `in_slice` are a slice of their own."""
    rows = [{"id": str(row), "label": "a"} for row in range(num_rows)]
    said = [{"logits": np.array([0.0, 1.0] if row in wrong else [1.0, 0.0])} for row in range(num_rows)]
    return judge_classes(
        rows, said, target="label", labels=("a", "b"), slices=lambda row: {"few": int(str(row["id"])) < in_slice}
    )


def loss(reference: Judged, found: Judged) -> Loss:
    outputs = [{"logits": np.zeros(2)}]
    return loss_of(reference, found, outputs, config=BUDGET, evaluate=EVALUATE, seed=1)


def test_a_drop_inside_the_budget_passes_with_its_interval():
    found = loss(judged(400, wrong=set()), judged(400, wrong={0, 1}))
    assert not found.faults
    assert found.metric == 0.995
    assert found.drop.low <= found.drop.value <= found.drop.high and found.drop.value == pytest.approx(0.005)


def test_a_drop_over_the_budget_fails_and_says_whether_the_rows_can_tell_it_from_none():
    (sure,) = loss(judged(400, wrong=set()), judged(400, wrong=set(range(40)))).faults
    assert "loses +10.00 points (+" in sure and "can't tell" not in sure
    (noise,) = loss(judged(60, wrong={0, 1}), judged(60, wrong={0, 2, 3})).faults
    assert "loses +1.67 points" in noise and "60 rows can't tell from none" in noise


def test_a_slice_fails_by_a_drop_that_is_more_than_noise_and_by_no_other():
    reference = judged(1000, wrong={0}, in_slice=30)
    noise = loss(reference, judged(1000, wrong={1, 2}, in_slice=30))
    assert noise.slice_drop.value > BUDGET.max_slice_drop and noise.worst_slice == "few"
    assert not noise.faults
    (fault,) = loss(reference, judged(1000, wrong=set(range(8)), in_slice=30)).faults
    assert "on `few`" in fault


def test_a_slice_with_few_rows_decides_nothing():
    found = loss(judged(1000, wrong=set(), in_slice=19), judged(1000, wrong=set(range(9)), in_slice=19))
    assert found.worst_slice == "" and not found.faults
