"""Exact match and F1 are SQuAD's: beside a transcription of the definition, and on cases worked out by hand."""

import collections
import re
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.evaluation.answers import first_sentence, judge_answers, normalized, scores
from noria.evaluation.answers_report import write_answers_report
from noria.evaluation.metrics import main_metric, value

words = st.lists(
    st.sampled_from(["The", "a", "An", "cat,", "cat", "Dog", "don't", "1.5", "-", "''", "猫", "été"]), max_size=6
)
texts = words.map(" ".join)


def normalize_answer(s):
    """Lower text and remove punctuation, articles and extra white space (SQuAD 2.0's definition)."""
    s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", s).split())


def compute_f1(a_gold, a_pred):
    gold_toks, pred_toks = normalize_answer(a_gold).split(), normalize_answer(a_pred).split()
    num_same = sum((collections.Counter(gold_toks) & collections.Counter(pred_toks)).values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision, recall = num_same / len(pred_toks), num_same / len(gold_toks)
    return 2 * precision * recall / (precision + recall)


@settings(deadline=None)
@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_scores_are_those_of_the_definition(answer, right):
    gold = [a for a in right if normalize_answer(a)] or [""]
    f1, exact, _ = scores(answer, right)
    assert f1 == pytest.approx(max(compute_f1(a, answer) for a in gold))
    assert exact == max(int(normalize_answer(a) == normalize_answer(answer)) for a in gold)


def test_cases_worked_out_by_hand():
    assert normalized("  The Cat's  (old) hat. ") == "cats old hat"
    assert scores("the cat", ("A cat!",)) == (1.0, 1.0, 0.0)
    assert scores("black cat", ("the cat", "dog")) == (pytest.approx(2 / 3), 0.0, 0.0)
    assert scores("", ("",)) == (1.0, 1.0, 1.0)
    assert scores("cat", ("",)) == (0.0, 0.0, 0.0)
    assert scores("红色的猫", ("红色",)) == (0.0, 0.0, 0.0)  # no spaces: one word
    assert scores("-1", ("1",)) == (1.0, 1.0, 0.0)  # SQuAD's comparison does not see signs; `same_text` does


def judged_rows():
    context = "Anna likes red. Bo likes blue."
    asked = [
        ("What does Anna like?", "red", "red"),
        ("What does Bo like?", "blue", "red blue"),
        ("Who is Kim?", "", "x | y"),
    ]
    rows = [
        {"id": str(n), "context": context, "question": q, "answer": a, "answer_start": "", "other_answers": ""}
        for n, (q, a, _) in enumerate(asked)
    ]
    return rows, judge_answers(rows, [said for *_, said in asked], confidence=[0.9, 0.5, 0.1])


def test_answers_are_judged_row_by_row_and_beside_a_trivial_answer():
    rows, judged = judged_rows()
    assert main_metric(judged)[0] == "f1"
    assert value(judged.metrics["f1"], judged) == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert value(judged.metrics["exact_match"], judged) == pytest.approx(1 / 3)
    assert judged.trivial_name == "never an answer"  # one row in three has none
    assert value(judged.metrics["f1"], judged.trivially_answered()) == pytest.approx(1 / 3)
    answered = judge_answers(rows[:2], ["red", "blue"], confidence=[1, 1])
    assert answered.trivial_name == "the first sentence of the context"
    weights = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert judged.metrics["exact_match"](judged, weights) == pytest.approx([0.0, 0.5])
    assert judged.slices["no answer"].tolist() == [False, False, True]
    assert first_sentence("Use v1.5 now. Then go.") == "Use v1.5 now." and first_sentence("红。蓝。") == "红。"
    assert first_sentence("") == ""
    none = judge_answers([{**row, "answer": ""} for row in rows], ["", "", ""], confidence=[1, 1, 1])
    assert none.trivial_name == "never an answer" and value(none.metrics["f1"], none) == 1


def test_the_report_has_a_picture_and_a_table_that_no_text_breaks(tmp_path):
    _, judged = judged_rows()
    write_answers_report(tmp_path, judged)
    assert (tmp_path / "f1_by_length.png").read_bytes().startswith(b"\x89PNG")
    table = [line for line in (tmp_path / "examples.md").read_text().splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3 and all(line.replace("\\|", "").count("|") == 6 for line in table)
    assert "x \\| y" in table[-1] and "| – |" in table[-1]


@pytest.mark.parametrize("lengths", [[5], [3, 3, 3], [1, 1, 100, 100], [1, 2, 900, 1_000, 5_000]])
def test_the_picture_has_rows_in_every_bin_whatever_the_lengths_are(tmp_path, lengths):
    rows = [
        {
            "id": str(n),
            "context": "a" * length,
            "question": "?",
            "answer": "a",
            "answer_start": "0",
            "other_answers": "",
        }
        for n, length in enumerate(lengths)
    ]
    write_answers_report(tmp_path, judge_answers(rows, ["a"] * len(rows), confidence=[0.5] * len(rows)))
    assert (tmp_path / "f1_by_length.png").read_bytes().startswith(b"\x89PNG")
