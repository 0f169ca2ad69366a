"""Events in order, the last of each user held out, and what is repaired of an event."""

import numpy as np
import pyarrow as pa
import pytest

from noria.config import CleanConfig, SplitConfig
from noria.data.event_rows import SCHEMA, measure, repair
from noria.data.histories import hold_out_last
from noria.data.moments import number_of
from noria.data.rows import content_id

ALL = SplitConfig(group_by="user", validation_share=1.0)
NOW = 1_600_000_000.0


def table(*events: tuple[str | None, str | None, float | None]) -> pa.Table:
    rows = [{"user": user, "item": item, "time": time} for user, item, time in events]
    return pa.Table.from_pylist([{"id": content_id(row), **row} for row in rows])


def test_the_last_event_by_time_judges_with_the_items_before_it_oldest_first():
    rows = table(("a", "3", NOW + 3), ("b", "9", NOW), ("a", "1", NOW + 1), ("b", "8", NOW - 1), ("a", "2", NOW + 2))
    held = hold_out_last(rows, ALL)
    assert held.judges.tolist() == [True, True, False, False, False]
    assert held.context.column("history").to_pylist() == [["1", "2"], ["8"]]


def test_an_event_that_was_trained_on_never_judges_later_as_data_grows():
    generator = np.random.default_rng(0)
    events = [(f"u{generator.integers(9)}", str(i), NOW + float(generator.integers(50))) for i in range(200)]
    trained: set[str] = set()
    for end in range(20, 201, 20):
        rows = table(*sorted(events, key=lambda event: event[2])[:end])
        ids = np.array(rows.column("id").to_pylist())
        judges = hold_out_last(rows, ALL).judges
        assert not trained & set(ids[judges])
        trained |= set(ids[~judges])


def test_events_of_one_moment_stand_in_the_same_order_however_the_file_is_written():
    events = [("a", str(i), NOW) for i in range(20)]
    first, second = (hold_out_last(table(*order), ALL) for order in (events, events[::-1]))
    assert first.context.equals(second.context)
    assert first.judges.tolist() == second.judges.tolist()[::-1]


def test_users_with_one_event_and_events_without_a_time_never_judge():
    held = hold_out_last(table(("a", "1", NOW), ("b", "1", NOW), ("b", "2", NOW + 1), ("b", "3", None)), ALL)
    assert held.judges.tolist() == [False, False, True, False]
    assert held.counts["users of one event"] == 1


def test_a_smaller_share_of_users_that_judge_is_part_of_a_larger_one():
    rows = table(*((f"u{user}", str(i), NOW + i) for user in range(100) for i in range(2)))
    few, many = (
        hold_out_last(rows, SplitConfig(group_by="user", validation_share=share)).judges for share in (0.2, 0.6)
    )
    assert 0 < few.sum() < many.sum() < 100
    assert not (few & ~many).any()


@pytest.mark.parametrize(
    ("event", "rule"),
    [
        ({"user": "", "item": "i", "time": NOW}, "missing_id"),
        ({"user": "u", "item": " \x00\t", "time": NOW}, "missing_id"),
        ({"user": "u", "item": None, "time": NOW}, "missing_id"),
        ({"user": "u", "item": "i" * 501, "time": NOW}, "long_id"),
        ({"user": "u", "item": "i", "time": None}, "missing_time"),
        ({"user": "u", "item": "i", "time": float("nan")}, "missing_time"),
        ({"user": "u", "item": "i", "time": 0.0}, "absurd_time"),
        ({"user": "u", "item": "i", "time": float("inf")}, "absurd_time"),
        ({"user": "u", "item": "i", "time": -1e300}, "absurd_time"),
    ],
)
def test_an_event_that_nobody_can_place_is_refused_with_the_rule_it_breaks(event, rule):
    repaired = repair(event, CleanConfig())
    assert repaired.values is None
    assert repaired.rule == rule
    assert repaired.reason


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e9])
def test_a_time_in_finer_units_is_brought_to_seconds(factor):
    repaired = repair({"user": "u", "item": "i", "time": NOW * factor}, CleanConfig())
    assert repaired.values is not None
    assert repaired.values["time"] == NOW


def test_ids_with_emoji_stay_whole_and_white_space_at_their_ends_goes():
    event = {"user": " 🎬 fan\t", "item": "👨‍👩‍👧 film\ufeff", "time": NOW}
    repaired = repair(event, CleanConfig())
    assert repaired.values == {"user": "🎬 fan", "item": "👨‍👩‍👧 film", "time": NOW}
    batch = pa.RecordBatch.from_pylist([dict(repaired.values), event], schema=SCHEMA)
    assert measure(batch).column("num_stray_chars").to_pylist() == [0, 3]


@pytest.mark.parametrize(
    ("value", "number"),
    [("", None), (" 5 ", 5.0), ("2020-09-13T12:26:40Z", NOW), ("2020-09-13 12:26:40", NOW), (None, None), (3, 3.0)],
)
def test_a_number_may_be_empty_or_a_moment_in_time(value, number):
    assert number_of(value) == number


def test_text_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="neither a number nor a time"):
        number_of("yesterday")
