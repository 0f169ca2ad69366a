"""An answer has one place in its context, or the row says why not."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import CleanConfig
from noria.data.answers import (
    augment,
    duplicate_key,
    leak_key,
    locate,
    measure,
    place_of,
    repair,
    right_answers,
    slices,
)
from noria.scenarios.question_answering import DEFAULTS, SCHEMA

CONFIG = CleanConfig.model_validate(DEFAULTS["clean"])
CONTEXT = "Anna likes red. 😀 Bo likes dark  blue, and Kim likes red."
letters = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


def row(answer: str | None, start: object = "", *, context: str | None = CONTEXT, question: str = "What?") -> dict:
    return {
        "document": "",
        "context": context,
        "question": question,
        "answer": answer,
        "answer_start": None if start is None else str(start),
        "other_answers": "",
    }


@pytest.mark.parametrize(
    ("answer", "start", "expected", "repair_"),
    [
        ("red", 11, (11, "red"), ""),
        ("red", 53, (53, "red"), ""),
        ("dark", "", (27, "dark"), ""),
        ("dark", 26, (27, "dark"), "answer_start"),
        ("dark", "nonsense", (27, "dark"), "answer_start"),
        ("red", 54, (53, "red"), "answer_start"),  # in UTF-16 the emoji counts twice
        ("red", 56, (53, "red"), "answer_start"),  # in UTF-8 four times
        ("DARK BLUE", 27, (27, "dark  blue"), "answer_text"),
        ("dark", 27.0, (27, "dark"), ""),
        ("", "", (-1, ""), ""),
    ],
)
def test_an_answer_is_where_the_row_says_or_where_alone_it_can_be(answer, start, expected, repair_):
    place = locate(CONTEXT, answer, start)
    assert (place.start, place.text, place.repair, place.rule) == (*expected, repair_, "")


@pytest.mark.parametrize(
    ("answer", "start", "rule"),
    [
        ("red", "", "ambiguous_answer"),
        ("red", 12, "ambiguous_answer"),
        ("likes", -1, "ambiguous_answer"),
        ("RED", "", "ambiguous_answer"),
        ("green", 11, "answer_not_in_context"),
        (" ", 4, "blank_answer"),
        ("red", 10**30, "ambiguous_answer"),
        ("red", "nan", "ambiguous_answer"),
        ("red", "-inf", "ambiguous_answer"),
    ],
)
def test_an_answer_without_one_place_is_quarantined_with_the_reason(answer, start, rule):
    place = locate(CONTEXT, answer, start)
    assert place.rule == rule and place.reason and place.start == -1
    assert repair(row(answer, start), CONFIG).rule == rule


@settings(deadline=None)
@given(letters, letters, letters, st.integers(-3, 200))
def test_what_is_repaired_is_in_its_place_and_passes_the_gate(before, answer, behind, start):
    repaired = repair(row(answer, start, context=f"{before}{answer}{behind} and more"), CONFIG)
    assert (repaired.values is None) == bool(repaired.rule)
    if repaired.values is not None:
        values = repaired.values
        assert values["context"].startswith(values["answer"], int(values["answer_start"]))
        measured = measure(pa.RecordBatch.from_pylist([values], schema=SCHEMA)).to_pylist()[0]
        assert not measured["has_misplaced_answer"] and not measured["has_mojibake"] and not measured["has_replacement"]
        assert repair(values, CONFIG).values == values


def test_an_answer_keeps_its_place_when_its_context_is_repaired():
    context = "The re\u00add one, cafe\u0301: red, and red again"
    repaired = repair(row("red", context.rindex("red"), context=context), CONFIG)
    assert repaired.rule == "ambiguous_answer"  # what was one word with a hidden hyphen is now one more "red"
    repaired = repair(row("cafe\u0301", context.index("caf"), context=context), CONFIG)
    assert repaired.values["answer"] == "caf\u00e9"
    assert repaired.values["context"][int(repaired.values["answer_start"]) :].startswith("caf\u00e9: red")
    context = "\x07Red and red and red"
    assert repair(row("red", 9, context=context), CONFIG).values["answer_start"] == "8"


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (row(None), "empty"),
        (row("red", context=None), "empty"),
        (row("red", question="  "), "empty"),
        (row("red", context="Anna likes \ufffd red."), "replacement_character"),
        (row("red", question="x" * 501), "too_long"),
        (row("x" * 301, context="x" * 400), "too_long"),
        (row("red", context="red " * 20_000), "too_long"),
        (row("red", context="red"), "too_short"),
    ],
)
def test_what_is_no_row_says_which_rule_it_breaks(values, rule):
    repaired = repair(values, CONFIG)
    assert repaired.values is None and repaired.rule == rule and repaired.reason


def test_nulls_are_measured_as_empty_texts():
    measured = measure(pa.RecordBatch.from_pylist([row(None, None, context=None)], schema=SCHEMA)).to_pylist()[0]
    assert measured["num_context_chars"] == 0 and measured["is_unanswerable"] and not measured["has_misplaced_answer"]
    assert place_of(row(None, None, context=None)).start == -1


def test_other_answers_are_a_json_list_or_one_more_answer():
    assert right_answers({**row("a"), "other_answers": '["b", "c"]'}) == ("a", "b", "c")
    assert right_answers({**row("a"), "other_answers": "b"}) == ("a", "b")
    assert right_answers({**row("a"), "other_answers": "[b"}) == ("a", "[b")
    assert right_answers({**row("a"), "other_answers": "[1]"}) == ("a", "[1]")
    assert right_answers({**row(None), "other_answers": None}) == ("",)


def test_a_duplicate_asks_the_same_of_the_same_context_and_a_leak_has_its_context():
    asked, again = row("red", question="What does Anna like?"), row("red", question="what does anna like")
    assert duplicate_key(asked) == duplicate_key(again) != duplicate_key({**asked, "context": CONTEXT + "!"})
    assert leak_key(asked) == leak_key({**asked, "question": "Who?"})


def test_an_augmented_question_keeps_context_and_answer():
    import numpy as np

    from noria.config import AugmentConfig

    values = row("red", 11, question="What does Anna like?")
    changed = augment(values, AugmentConfig(), np.random.default_rng(0))
    assert (
        changed["question"].rstrip("?").lower() == "what does anna like" and changed["question"] != values["question"]
    )
    assert {**changed, "question": ""} == {**values, "question": ""}
    assert augment({**values, "question": "谁"}, AugmentConfig(), np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Which one?", "asks which"),
        ("Of which type is it?", "asks which"),
        ("How many?", "asks how many"),
        ("How?", "asks how"),
        ("小明喜欢什么颜色？", "asks what"),
        ("Is it red?", "asks otherwise"),
    ],
)
def test_a_question_is_in_one_slice_of_what_it_asks(question, asked):
    found = slices(row("red", question=question))
    assert [name for name, member in found.items() if member and name.startswith("asks")] == [asked]
    assert found["answer of one word"] and found["short context (≤ 500 characters)"] and not found["no answer"]


def test_questions_that_differ_in_signs_are_two_and_in_case_and_mark_are_one():
    keys = [duplicate_key(row("red", question=q)) for q in ("What is a == b?", "What is a != b?", "C++?", "C#?", "C?")]
    assert len(set(keys)) == 5
    assert duplicate_key(row("red", question="what  IS a == b")) == keys[0]


def test_other_answers_are_repaired_as_the_answer_is():
    others = json.dumps(["Orle\u0301ans", "a\x07b"])
    repaired = repair({**row("red", 11), "other_answers": others}, CONFIG)
    assert right_answers(repaired.values) == ("red", "Orl\u00e9ans", "ab") and "other_answers" in repaired.repairs
