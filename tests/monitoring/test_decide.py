"""The decision: what calls a person, what calls for training, and that nothing does without a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.config import StopConfig, TriggersConfig, UpdateConfig
from noria.monitoring.decide import Arrived, Situation, decide, staged_and_not_judged, tries_since_promotion
from noria.monitoring.decision import decision_markdown
from noria.monitoring.drift import Feature, LabelShift
from noria.monitoring.monitor import FreshMetric, Monitoring
from noria.serving.journal import Event

CONFIG = UpdateConfig()
ALL_OFF = UpdateConfig(
    triggers=TriggersConfig(metric_drop=None, drift=None, new_rows=None, age_days=None),
    stop=StopConfig(metric_drop=None, refused_share=None, label_shift=None, tries=None),
)
GOOD = FreshMetric(
    "accuracy", 0.9, 0.88, 0.92, baseline=0.9, drop=0.0, drop_low=-0.02, drop_high=0.02, rows=500, judged=True
)
DRIFTED = Feature("num_chars", "number", "psi", 0.5, 0.001, 0.2, 500, True, "drifted")
QUIET = Situation(
    Monitoring("0123456789ab", "2026-01-01T00:00:00+00:00", rows=500, untried=500, tried="0123456789ab", metric=GOOD),
    Arrived(objects=4, refused=0),
    age_days=1.0,
    tries=0,
)


def seen(**changes) -> Situation:
    return replace(QUIET, monitoring=replace(QUIET.monitoring, **changes))


def lost(drop: float, margin: float, *, judged: bool = True) -> FreshMetric:
    return replace(GOOD, value=0.9 - drop, drop=drop, drop_low=drop - margin, drop_high=drop + margin, judged=judged)


@pytest.mark.parametrize(
    ("situation", "action", "word"),
    [
        (QUIET, "none", "no trigger fired"),
        (seen(rows=0, untried=0), "none", "nothing came"),
        (seen(version=None, rows=0, untried=0, tried=None), "none", "nothing is live"),
        (seen(version=None, tried=None), "retrain", "first training"),
        (replace(seen(version=None, untried=0, tried=None), arrived=Arrived(9, 0, 9)), "retrain", "first training"),
        (seen(version=None, rows=500, untried=0), "none", "nothing came that version 0123456789ab was not trained on"),
        (replace(seen(version=None, rows=0, untried=0), unfinished=True), "retrain", "ended before it was done"),
        (replace(seen(version=None, rows=0, untried=0), unjudged="ba9876543210"), "retrain", "ba9876543210 was staged"),
        (replace(seen(rows=0, untried=0), unfinished=True), "none", "nothing came"),
        (seen(untried=1000), "retrain", "1,000 rows came that no training has seen"),
        (seen(rows=5000, untried=0), "none", "5,000 rows that the champion does not know"),
        (seen(features=(DRIFTED,)), "retrain", "1 of 1 features drifted: num_chars"),
        (replace(QUIET, age_days=31.0), "retrain", "31.0 days old"),
        (seen(metric=lost(0.05, 0.03)), "retrain", "accuracy is 0.8500 on 500 fresh rows"),
        (seen(metric=lost(0.05, 0.06)), "none", "no trigger fired"),  # it may be chance
        (seen(metric=lost(0.01, 0.005)), "none", "no trigger fired"),  # it does not matter
        (seen(metric=lost(0.05, 0.03, judged=False)), "none", "too few rows to judge"),
        (seen(metric=lost(0.4, 0.1)), "call", "lost at least 30.0%"),
        (seen(metric=lost(0.4, 0.2)), "retrain", "-40.00%"),
        (seen(metric=lost(0.4, 0.1, judged=False)), "none", "too few rows to judge"),
        (seen(label_shift=LabelShift(0.4, 0.1)), "call", "40% of the fresh rows have other labels"),
        (seen(label_shift=LabelShift(0.4, 0.5)), "none", "no trigger fired"),
        (replace(QUIET, arrived=Arrived(2, 1)), "call", "refused 1 of 2 new objects"),
        (replace(QUIET, arrived=Arrived(3, 1)), "none", "no trigger fired"),
        (replace(QUIET, tries=3), "call", "3 trainings in a row"),
        (replace(seen(rows=500, untried=0), tries=3), "none", "nothing came"),
        (replace(seen(rows=500, untried=0), unjudged="ba9876543210"), "retrain", "ba9876543210 was staged and never"),
        (replace(seen(metric=lost(0.4, 0.1)), unjudged="ba9876543210"), "call", "lost at least 30.0%"),
    ],
)
def test_each_situation_has_its_action_and_its_reason(situation, action, word):
    decided = decide(situation, config=CONFIG)
    assert decided.action == action
    assert any(word in reason for reason in decided.reasons), decided.reasons


metrics = st.builds(lost, st.floats(-0.5, 0.9), st.floats(0, 0.3), judged=st.booleans()) | st.none()
situations = st.builds(
    Situation,
    st.builds(
        Monitoring,
        st.sampled_from(["0123456789ab", None]),
        st.just("2026-01-01T00:00:00+00:00"),
        rows=st.integers(0, 5000),
        untried=st.integers(0, 5000),
        tried=st.just("0123456789ab"),
        metric=metrics,
        features=st.lists(st.sampled_from([DRIFTED, replace(DRIFTED, drifted=False)]), max_size=4).map(tuple),
        label_shift=st.builds(LabelShift, st.floats(0, 1), st.floats(0, 1)) | st.none(),
    ),
    st.integers(0, 9).flatmap(lambda n: st.builds(Arrived, st.just(n), st.integers(0, n))),
    st.floats(0, 100),
    st.integers(0, 9),
)


@given(situations)
def test_whatever_is_decided_has_reasons_with_all_rules_behind_it(situation):
    decided = decide(situation, config=CONFIG)
    assert decided.reasons and all(decided.reasons)
    assert len({rule.name for rule in decided.triggers}) == len(decided.triggers) == 8
    if decided.action == "call":
        assert any(rule.fired for rule in decided.triggers[:4])
    elif decided.action == "retrain" and situation.monitoring.version is not None:
        assert situation.monitoring.untried > 0
        assert any(rule.fired for rule in decided.triggers[4:])
    assert decided.reasons[0] in decision_markdown(decided)


@given(situations)
def test_with_everything_off_only_the_first_training_is_called_for(situation):
    decided = decide(situation, config=ALL_OFF)
    first = situation.monitoring.version is None and situation.monitoring.untried > 0
    assert decided.action == ("retrain" if first else "none")
    assert not any(rule.fired for rule in decided.triggers)


@given(situations, st.integers(1, 5000))
def test_more_new_rows_never_turn_training_into_waiting(situation, more):
    before = decide(situation, config=CONFIG)
    grown = replace(
        situation.monitoring, rows=situation.monitoring.rows + more, untried=situation.monitoring.untried + more
    )
    after = decide(replace(situation, monitoring=grown), config=CONFIG)
    assert not (before.action == "retrain" and after.action == "none")


def test_tries_count_versions_since_the_last_that_went_live():
    def event(kind, version, **details):
        return Event(kind, version, "2026-01-01T00:00:00+00:00", details=details)

    events = [event("kept", "a"), event("promoted", "b"), event("kept", "c"), event("kept", "c"), event("staged", "d")]
    assert tries_since_promotion(events) == 1
    assert tries_since_promotion([*events, event("inconclusive", "d")]) == 2
    assert tries_since_promotion([]) == 0
    tried = [*events, event("canary", "d")]
    assert tries_since_promotion(tried) == 1  # it stands
    assert tries_since_promotion([*tried, event("withdrawn", "d")]) == 2
    assert tries_since_promotion([*tried, event("promoted", "d")]) == 0
    back = [*tried, event("promoted", "d"), event("rolled-back", "b", over="d")]
    assert tries_since_promotion(back) == 2
    assert tries_since_promotion([*back, event("promoted", "d")]) == 0
    assert tries_since_promotion([*back, event("promoted", "d"), event("rolled-back", "b", over="d")]) == 2


def test_a_version_whose_run_was_killed_before_the_verdict_is_known():
    def event(kind, version):
        return Event(kind, version, "2026-01-01T00:00:00+00:00")

    first = [event("staged", "a"), event("promoted", "a"), event("published", "b"), event("staged", "b")]
    assert staged_and_not_judged(first) == "b"
    for kind in ("promoted", "kept", "inconclusive", "canary"):
        assert staged_and_not_judged([*first, event(kind, "b")]) is None
    assert staged_and_not_judged([*first, event("rolled-back", "a")]) == "b"
    assert staged_and_not_judged([]) is None
