"""Intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from noria.config import EvaluateConfig
from noria.evaluation.bootstrap import interval, paired_difference
from noria.evaluation.metrics import accuracy, calibration_error, macro_f1
from noria.evaluation.slices import slice_differences, slice_scores

CONFIG = EvaluateConfig(resamples=400, confidence=0.9, min_slice_rows=30)


def test_a_ninety_percent_interval_covers_the_truth_about_nine_times_in_ten():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        estimate = interval(accuracy, tiny.judged(generator.random(150) < 0.8), config=CONFIG, seed=trial)
        covered += estimate.low <= 0.8 <= estimate.high
    assert 165 <= covered <= 195  # 180 ± 15: more than three standard errors


def test_the_interval_of_a_well_calibrated_model_holds_its_calibration_error():
    right = np.arange(1000) % 10 != 0  # nine in ten, as sure as it says: every resample is less even than the rows
    estimate = interval(calibration_error, tiny.judged(right), config=CONFIG, seed=5)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.value < 1e-9


def test_pairing_sees_a_difference_that_separate_intervals_can_not():
    generator = np.random.default_rng(1)
    old = generator.random(1000) < 0.8
    new = old | (generator.random(1000) < 0.1)  # right wherever the old one is, and a little more
    config = EvaluateConfig(resamples=1000)
    separate = [interval(accuracy, tiny.judged(right), config=config, seed=1) for right in (old, new)]
    assert separate[0].high > separate[1].low
    assert paired_difference(accuracy, tiny.judged(new), tiny.judged(old), config=config, seed=1).low > 0


def test_pairing_sees_no_difference_between_equally_good_models():
    generator = np.random.default_rng(2)
    models = [tiny.judged(generator.random(1000) < 0.8) for _ in range(2)]
    gain = paired_difference(macro_f1, *models, config=CONFIG, seed=2)
    assert gain.low < 0 < gain.high


def test_equal_models_differ_by_exactly_nothing():
    model = tiny.judged(np.random.default_rng(3).random(100) < 0.7)
    gain = paired_difference(accuracy, model, model, config=CONFIG, seed=3)
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)


def test_the_seed_decides_the_interval():
    model = tiny.judged(np.random.default_rng(4).random(100) < 0.7)
    first, again, other = (interval(macro_f1, model, config=CONFIG, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_small_slices_are_shown_and_not_judged():
    right = np.arange(100) % 10 != 0
    slices = {"large": np.arange(100) < 60, "small": np.arange(100) >= 90, "empty": np.zeros(100, dtype=bool)}
    scores = slice_scores(accuracy, tiny.judged(right, slices=slices), config=CONFIG, seed=1)
    assert [(score.name, score.rows, score.judged) for score in scores] == [("large", 60, True), ("small", 10, False)]
    assert scores[0].estimate.value == pytest.approx(0.9)
    (worse, _) = slice_differences(
        accuracy,
        tiny.judged(right & ~slices["large"], slices=slices),
        tiny.judged(right, slices=slices),
        config=CONFIG,
        seed=1,
    )
    assert worse.estimate.value == pytest.approx(-0.9)
    assert worse.estimate.high < -0.8
