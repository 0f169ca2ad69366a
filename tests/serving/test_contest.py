"""The rule of champion and challenger: every branch, with its reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from noria.config import UpdateConfig
from noria.evaluation.bootstrap import Estimate
from noria.evaluation.judged import judge_classes
from noria.evaluation.metrics import accuracy, value
from noria.evaluation.slices import SliceScore
from noria.serving.contest import Verdict, decide, decide_first

CONFIG = UpdateConfig(min_gain=0.0, max_slice_drop=0.03, max_latency_ratio=2.0)
MEASURED = Verdict(
    "inconclusive",
    (),
    challenger="new",
    champion="old",
    metric="accuracy",
    challenger_metric=0.9,
    champion_metric=0.88,
    gain=Estimate(0.02, 0.01, 0.03),
    latency_ratio=1.0,
    rows=1000,
)


def part(value: float, high: float, *, judged: bool = True) -> SliceScore:
    return SliceScore("short", 100, Estimate(value, value - 0.05, high), judged)


def test_a_gain_beyond_doubt_is_promoted():
    verdict = decide(MEASURED, config=CONFIG)
    assert verdict.decision == "promote"
    assert "accuracy +2.00 points (+1.00 to +3.00) on 1,000 rows" in verdict.reasons[0]


def test_an_interval_that_holds_zero_is_inconclusive():
    verdict = decide(replace(MEASURED, gain=Estimate(0.005, -0.005, 0.015)), config=CONFIG)
    assert verdict.decision == "inconclusive"
    assert "can't tell them apart" in verdict.reasons[0]


@pytest.mark.parametrize("gain", [Estimate(-0.02, -0.03, -0.01), Estimate(0.0, 0.0, 0.0)])
def test_no_gain_keeps_the_champion(gain):
    assert decide(replace(MEASURED, gain=gain), config=CONFIG).decision == "keep"


def test_a_gain_under_the_configured_one_is_not_enough():
    assert decide(MEASURED, config=CONFIG.model_copy(update={"min_gain": 0.02})).decision == "inconclusive"
    assert decide(MEASURED, config=CONFIG.model_copy(update={"min_gain": 0.04})).decision == "keep"


@pytest.mark.parametrize(
    ("slices", "decision"),
    [
        (part(-0.06, -0.01), "keep"),
        (part(-0.06, 0.01), "promote"),  # swings by chance
        (part(-0.02, -0.01), "promote"),  # inside what is allowed
        (part(-0.50, -0.40, judged=False), "promote"),  # too few rows
    ],
)
def test_a_slice_that_surely_loses_too_much_keeps_the_champion(slices, decision):
    verdict = decide(replace(MEASURED, slices=(slices,)), config=CONFIG)
    assert verdict.decision == decision
    if decision == "keep":
        assert "`short` loses" in verdict.reasons[1]


def test_a_slow_challenger_keeps_the_champion():
    verdict = decide(replace(MEASURED, latency_ratio=2.5), config=CONFIG)
    assert verdict.decision == "keep"
    assert "2.50 times as long" in verdict.reasons[1]


def test_a_large_challenger_keeps_the_champion():
    verdict = decide(replace(MEASURED, size_ratio=2.5), config=CONFIG)
    assert verdict.decision == "keep"
    assert "2.50 times as large; 2 times are allowed" in verdict.reasons[1]
    assert decide(replace(MEASURED, size_ratio=1.9), config=CONFIG).decision == "promote"


def test_the_first_model_must_beat_a_constant_answer():
    assert decide_first(MEASURED, over="guessing").decision == "promote"
    guessing = decide_first(replace(MEASURED, gain=Estimate(0.01, -0.01, 0.03)), over="guessing")
    assert guessing.decision == "keep"
    assert "no better than guessing" in guessing.reasons[0]


def test_the_trivial_answer_is_the_most_frequent_one():
    rows = [{"id": str(i), "label": "neg" if i < 7 else "pos"} for i in range(10)]
    judged = judge_classes(
        rows, [{"logits": np.zeros(2)}] * 10, target="label", labels=["neg", "pos"], slices=lambda row: {}
    )
    assert value(accuracy, judged.trivially_answered()) == pytest.approx(0.7)
