"""Feedback is believed within limits that nobody who gives it can move."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import FeedbackConfig
from noria.data.opinions import Known, Opinion, decide

CONFIG = FeedbackConfig(max_client_rows=3, max_contradictions=0.5, min_contradictions=2)
LABELS = frozenset({"neg", "pos"})


def opinions(*said):
    """(client, key, label) each."""
    return [Opinion(f"{number:02}", *each) for number, each in enumerate(said)]


def rules(decided):
    return {name: rule for name, (rule, _) in decided.refused.items()}


def names(decided):
    return [each.name for each in decided.accepted]


def test_an_unknown_label_is_refused_and_in_words_that_tell():
    decided = decide(
        opinions(("a", "x", "great"), ("a", "y", "pos")), known=Known(labels=LABELS, room=9), config=CONFIG
    )
    assert decided.refused == {"00": ("unknown_label", "`great` is none of neg, pos")}
    assert names(decided) == ["01"]


def test_who_contradicts_most_labelled_rows_is_believed_nothing():
    truth = {"1": "pos", "2": "pos", "3": "neg"}
    said = opinions(("liar", "1", "neg"), ("liar", "2", "neg"), ("liar", "3", "neg"), ("liar", "new", "neg"))
    honest = [Opinion("90", "honest", "1", "neg"), Opinion("91", "honest", "other", "neg")]
    decided = decide([*said, *honest], known=Known(truth=truth, room=9), config=CONFIG)
    assert rules(decided) == dict.fromkeys(("00", "01", "02", "03"), "distrusted_client") | {"90": "contradicts_row"}
    assert names(decided) == ["91"]


def test_who_contradicts_a_little_in_each_intake_is_believed_nothing_and_a_good_name_is_no_licence():
    known = Known(truth={"1": "pos", "2": "pos"}, room=9, heard={"liar": (1, 1), "good": (100, 0)})
    said = opinions(("liar", "1", "neg"), ("liar", "new", "neg"), ("other", "1", "neg"), ("other", "more", "neg"))
    decided = decide(said, known=known, config=CONFIG)
    assert rules(decided) == dict.fromkeys(("00", "01"), "distrusted_client") | {"02": "contradicts_row"}
    assert decided.heard == {"liar": (1, 1), "other": (1, 1)}
    turned = opinions(("good", "1", "neg"), ("good", "2", "neg"), ("good", "new", "neg"))
    assert set(rules(decide(turned, known=known, config=CONFIG)).values()) == {"distrusted_client"}


def test_of_those_who_contradict_each_other_nobody_is_believed_whenever_they_spoke():
    decided = decide(
        opinions(("a", "x", "neg"), ("b", "x", "pos"), ("c", "y", "pos")), known=Known(room=9), config=CONFIG
    )
    assert rules(decided) == {"00": "disagreement", "01": "disagreement"}
    later = decide(opinions(("d", "y", "neg")), known=Known(earlier={"y": "pos"}, room=9), config=CONFIG)
    assert rules(later) == {"00": "disagreement"}


def test_a_day_of_one_client_and_the_share_of_all_have_an_end():
    said = opinions(*(("a", f"k{number}", "pos") for number in range(5)), ("b", "k9", "pos"), ("c", "k8", "pos"))
    decided = decide(said, known=Known(today={"a": 1}, room=3), config=CONFIG)
    assert names(decided) == ["00", "01", "05"]
    assert Counter(rules(decided).values()) == {"client_cap": 3, "too_large_a_share": 1}


any_opinion = st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz"), st.sampled_from(["neg", "pos", "huh"]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(any_opinion, max_size=40),
    st.dictionaries(st.sampled_from("uvw"), st.sampled_from(sorted(LABELS))),
    st.dictionaries(st.sampled_from("xy"), st.sampled_from(sorted(LABELS))),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 4)),
    st.integers(0, 10),
)
def test_whatever_is_said_the_limits_hold(said, truth, earlier, today, room):
    said = opinions(*said)
    known = Known(truth, earlier, LABELS, today, room)
    decided = decide(said, known=known, config=CONFIG)
    assert decided == decide(said, known=known, config=CONFIG)
    assert not {*names(decided)} & decided.refused.keys()
    assert len(decided.accepted) <= room
    for client, count in Counter(each.client for each in decided.accepted).items():
        assert count + today.get(client, 0) <= CONFIG.max_client_rows
    keys = [each.key for each in decided.accepted]
    assert len(keys) == len(set(keys))
    assert not {*keys} & (truth.keys() | earlier.keys())
    for each in decided.accepted:
        assert each.label in LABELS
        assert {other.label for other in said if other.key == each.key and other.label in LABELS} >= {each.label}
    told = {each.name for each in said} - {*names(decided)} - decided.refused.keys()
    agreed = {**truth, **earlier, **{each.key: each.label for each in decided.accepted}}
    assert all(agreed[each.key] == each.label for each in said if each.name in told)
