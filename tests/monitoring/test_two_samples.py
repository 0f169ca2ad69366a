"""Two samples: no more false alarms than allowed at any size, and an eye for what moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from noria.config import DriftConfig
from noria.monitoring.drift import Sample, find_drift
from noria.monitoring.features import Columns
from noria.monitoring.two_samples import (
    adjust,
    bin_categories,
    bin_numbers,
    compare_counts,
    compare_vectors,
    total_variation,
)

NOTHING = Columns({}, {})
NO_VECTORS = np.zeros((0, 3), np.float32)
counts = st.lists(st.integers(0, 200), min_size=2, max_size=12)


def significance(num_trials: int, rate: float) -> int:
    """Alarms that so many trials exceed with a chance of one in ten thousand at this rate."""
    return int(stats.binom.ppf(0.9999, num_trials, rate))


@pytest.mark.parametrize(("num_old", "num_new"), [(10, 10), (2000, 10), (500, 60), (2000, 2000), (2000, 5000)])
@pytest.mark.parametrize("draw", ["normal", "heavy", "counts", "labels"])
def test_under_no_drift_a_test_alarms_no_more_often_than_alpha(num_old, num_new, draw):
    alpha, num_trials = 0.05, 120
    generator = np.random.default_rng(num_old * 7 + num_new)
    alarms = 0
    for trial in range(num_trials):
        if draw == "labels":
            sides = [
                generator.choice(["a", "b", "c"], size=n, p=[0.7, 0.29, 0.01]).tolist() for n in (num_old, num_new)
            ]
            both = bin_categories(*sides)
        else:
            sides = [
                {"normal": generator.normal, "heavy": generator.standard_cauchy}[draw](size=n)
                if draw != "counts"
                else generator.poisson(1.5, size=n).astype(float)
                for n in (num_old, num_new)
            ]
            both = bin_numbers(*sides)
        alarms += compare_counts(*both, alpha=alpha, seed=trial).p_value < alpha
    assert alarms <= significance(num_trials, alpha)


@pytest.mark.parametrize(("num_new", "least"), [(10, 0.15), (60, 0.95), (500, 1.0)])
def test_a_shift_of_one_standard_deviation_is_found(num_new, least):
    generator = np.random.default_rng(1)
    found = [
        compare_counts(
            *bin_numbers(generator.normal(size=2000), generator.normal(loc=1.0, size=num_new)), alpha=0.01, seed=trial
        ).p_value
        < 0.01
        for trial in range(60)
    ]
    assert np.mean(found) >= least


def test_vectors_that_are_alike_raise_no_alarm_and_shifted_ones_do():
    generator = np.random.default_rng(2)
    p_values = [
        compare_vectors(generator.normal(size=(60, 8)), generator.normal(size=(20, 8)), alpha=0.05, seed=s).p_value
        for s in range(30)
    ]
    assert sum(p < 0.05 for p in p_values) <= significance(30, 0.05)
    shifted = compare_vectors(generator.normal(size=(200, 8)), generator.normal(0.5, size=(200, 8)), alpha=0.01, seed=1)
    assert shifted.p_value < 0.001
    assert shifted.value == pytest.approx(
        1 - np.sqrt(2 / 2.25), abs=0.02
    )  # of the normal distribution in many dimensions


@pytest.mark.parametrize("num_new", [10, 200])
def test_the_whole_look_at_many_features_alarms_no_more_often_than_alpha(num_new):
    config = DriftConfig(alpha=0.05, min_rows=1, min_psi=0.0)
    generator = np.random.default_rng(num_new)
    alarms = 0
    for seed in range(30):
        sides = [
            Columns({f"x{i}": generator.normal(size=n) for i in range(10)}, {"label": generator.choice(["a", "b"], n)})
            for n in (1000, num_new)
        ]
        old, new = (Sample(side, NOTHING, NO_VECTORS) for side in sides)
        alarms += any(feature.drifted for feature in find_drift(old, new, config=config, seed=seed))
    assert alarms <= significance(30, 0.05)


def test_many_rows_that_moved_a_little_are_told_of_and_raise_no_alarm():
    generator = np.random.default_rng(3)
    old, new = (
        Sample(Columns({"length": generator.normal(mean, 1, 20_000)}, {}), NOTHING, NO_VECTORS) for mean in (0.0, 0.1)
    )
    (feature,) = find_drift(old, new, config=DriftConfig(), seed=1)
    assert feature.p_value < 0.01
    assert not feature.drifted
    assert feature.text.startswith("surely, but too little to matter")


def test_few_rows_are_not_judged_however_far_they_are():
    old, new = (
        Sample(Columns({"length": np.arange(n) + start}, {}), NOTHING, NO_VECTORS) for n, start in ((500, 0), (29, 9e9))
    )
    (feature,) = find_drift(old, new, config=DriftConfig(), seed=1)
    assert not feature.drifted
    assert feature.text.startswith("not judged: 29 rows, 30 are needed")


def test_a_feature_that_is_ignored_is_not_compared():
    sides = [Sample(Columns({"year": np.full(50, y), "x": np.ones(50)}, {}), NOTHING, NO_VECTORS) for y in (1.0, 2.0)]
    found = find_drift(*sides, config=DriftConfig(ignore=("year",)), seed=1)
    assert [feature.name for feature in found] == ["x"]


@given(counts, counts)
def test_measures_of_difference_keep_their_bounds(left, right):
    size = min(len(left), len(right))
    old, new = np.array(left[:size]) + 0, np.array(right[:size]) + 0
    old[0], new[0] = old[0] + 1, new[0] + 1
    found = compare_counts(old, new, alpha=0.01, seed=1)
    assert 0 < found.p_value <= 1
    assert found.value >= -1e-12
    assert -1e-9 <= found.jensen_shannon <= 1 + 1e-9
    assert 0 <= total_variation(old, new) <= 1


@given(counts)
def test_equal_samples_do_not_differ(values):
    sample = np.array(values) + 1
    found = compare_counts(sample, sample, alpha=0.01, seed=1)
    assert (found.value, found.p_value) == (pytest.approx(0, abs=1e-12), 1.0)


@settings(max_examples=25)
@given(st.integers(30, 400), st.integers(30, 400), st.integers(3, 10))
def test_what_chance_brings_follows_the_law_of_the_index_at_many_rows(old, new, num_bins):
    sizes = np.full(num_bins, 20 * old), np.full(num_bins, 20 * new)
    drawn = compare_counts(*sizes, alpha=0.05, seed=1).by_chance
    total = sum(1 / sample.sum() for sample in sizes)
    assert drawn == pytest.approx(total * stats.chi2.ppf(0.95, num_bins - 1), rel=0.12)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_adjusted_p_values_are_those_of_holm(p_values):
    adjusted = adjust(p_values)
    order = np.argsort(p_values)
    steps = [(len(p_values) - rank) * p_values[place] for rank, place in enumerate(order)]
    expected = np.minimum(np.maximum.accumulate(steps), 1) if steps else []
    assert [adjusted[place] for place in order] == pytest.approx(list(expected))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1, max_size=60), st.integers(1, 40))
def test_every_row_is_in_one_bin(values, num_new):
    old, new = np.array(values, float), np.array((values * 40)[:num_new], float)
    old_B, new_B = bin_numbers(old, new)
    assert (old_B.sum(), new_B.sum()) == (len(old), len(new))
    assert len(old_B) == len(new_B) <= 12


def test_no_alpha_is_so_small_that_nothing_can_drift():
    generator = np.random.default_rng(5)
    numbers = [{f"f{place}": generator.normal(size=n) for place in range(20)} for n in (300, 200)]
    numbers[1]["f3"] = numbers[1]["f3"] + 5
    vectors = [generator.normal(size=(n, 3)).astype(np.float32) + shift for n, shift in ((60, 0), (50, 5))]
    old, new = (Sample(Columns(side, {}), NOTHING, place) for side, place in zip(numbers, vectors, strict=True))
    found = find_drift(old, new, config=DriftConfig(alpha=0.001), seed=0)
    assert {one.name for one in found if one.drifted} == {"f3", "representation"}
