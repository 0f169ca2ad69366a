"""The budget of one validation set: it is never overdrawn, and new rows fill it again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.serving.journal import Event
from noria.serving.reuse import SKETCH, share_used, sketch_of, use_of


def ids(start: int, stop: int) -> list[str]:
    return [f"row{i}" for i in range(start, stop)]


def verdict(version: str, rows: list[str], champion: str = "old") -> Event:
    details = {"champion": champion, SKETCH: list(sketch_of(rows))}
    return Event("kept", version, "2026-01-01T00:00:00+00:00", "", details)


def test_each_verdict_by_the_same_rows_spends_less_and_all_together_never_more_than_alpha():
    rows, events, spent = ids(0, 500), [], []
    for number in range(200):
        use = use_of(rows, f"v{number}", "old", events, alpha=0.05)
        assert use.number == number + 1
        spent.append(use.alpha)
        events.append(verdict(f"v{number}", rows))
    assert spent == sorted(spent, reverse=True)
    assert sum(spent) < 0.05
    assert spent[0] == pytest.approx(0.05 * 6 / math.pi**2)


def test_the_same_pair_on_the_same_rows_is_no_new_chance():
    rows = ids(0, 500)
    events = [verdict("a", rows), verdict("a", rows)]
    assert use_of(rows, "a", "old", events, alpha=0.05).number == 1
    assert use_of(rows, "a", "newer", events, alpha=0.05).number == 2
    assert use_of(rows, "b", "old", events, alpha=0.05).number == 2


def test_rows_that_are_mostly_new_have_a_budget_of_their_own():
    events = [verdict("a", ids(0, 1000))]
    assert use_of(ids(0, 1500), "b", "old", events, alpha=0.05).number == 2
    assert use_of(ids(0, 4000), "b", "old", events, alpha=0.05).number == 1
    assert use_of(ids(1000, 2000), "b", "old", events, alpha=0.05).number == 1


def test_events_without_rows_spend_nothing():
    events = [Event(kind, "a", "2026-01-01T00:00:00+00:00") for kind in ("published", "promoted", "rolled-back")]
    assert use_of(ids(0, 100), "b", "old", events, alpha=0.05).number == 1


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_the_share_of_used_rows_is_estimated_within_15_points(shared, fresh):
    now, before = ids(0, shared + fresh), ids(0, shared)
    assert share_used(sketch_of(now), sketch_of(before)) == pytest.approx(shared / (shared + fresh), abs=0.15)
