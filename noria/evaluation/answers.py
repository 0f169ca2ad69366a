"""Exact match and F1 of answers as SQuAD defines them, from counts a row: a bootstrap then resamples rows.

Rajpurkar et al. 2016 (arXiv:1606.05250), 6.1, and 2018 (arXiv:1806.03822): answers are compared in lower
case without punctuation (ASCII) and the articles a, an, the; F1 is of the bags of words between spaces;
the best right answer counts; where one side is empty, both must be.

A language without spaces has one "word" a sentence by this, so F1 comes near to exact match there; a
language with other articles keeps them.

Shapes: R sets of weights, N rows.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from noria.data.answers import right_answers, slices
from noria.data.squad import CONTEXT, QUESTION
from noria.evaluation.judged import Judged, ids_of, slices_of
from noria.evaluation.metrics import Metric
from noria.scenarios.base import Row

F1, EXACT, SAME = range(3)
"""Columns of `Judged.outputs`."""
ASKED, RIGHT, ANSWERED, SCORE, LENGTH = "question", "right", "answered", "score", "context_chars"
"""Columns for people."""
NONE, FIRST_SENTENCE = "never an answer", "the first sentence of the context"

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SENTENCE = re.compile(r".+?(?:[.!?。！？](?=\s|$)|[。！？]|$)", re.DOTALL)


def normalized(answer: str) -> str:
    """What is compared."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def f1_of(answer: str, right: str) -> float:
    """Harmonic mean of the shares of each side's words that the other has."""
    said, true = normalized(answer).split(), normalized(right).split()
    if not said or not true:
        return float(said == true)
    both = (Counter(said) & Counter(true)).total()
    return 2 * both / (len(said) + len(true))


def scores(answer: str, right: Sequence[str]) -> tuple[float, float, float]:
    """F1, exact match, and whether the answer is one of the right ones letter by letter.

    As SQuAD 2.0 has it, right answers that are nothing once normalized don't count; where all are, none is right.
    """
    compared = [each for each in right if normalized(each)] or [""]
    exact = max(float(normalized(answer) == normalized(each)) for each in compared)
    return max(f1_of(answer, each) for each in compared), exact, float(answer in right)


def f1(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Mean F1."""
    return _mean(judged, weights_RN, F1)


def exact_match(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of answers that are right, by SQuAD's comparison."""
    return _mean(judged, weights_RN, EXACT)


def same_text(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of answers that are right letter by letter: `-1` is not `1`."""
    return _mean(judged, weights_RN, SAME)


METRICS: Mapping[str, Metric] = {"f1": f1, "exact_match": exact_match, "same_text": same_text}


def judge_answers(rows: Sequence[Row], answers: Sequence[str], *, confidence: Sequence[float]) -> Judged:
    """Set answers beside the right ones; the trivial answer is none or the first sentence, whichever is better."""
    right = [right_answers(row) for row in rows]
    trivial = {
        NONE: _scores(["" for _ in rows], right),
        FIRST_SENTENCE: _scores([first_sentence(str(row[CONTEXT])) for row in rows], right),
    }
    name = max(trivial, key=lambda name: float(trivial[name][:, F1].mean()))
    return Judged(
        ids_of(rows),
        targets=np.zeros(len(rows)),
        outputs=_scores(answers, right),
        labels=(),
        slices=slices_of(rows, slices),
        metrics=METRICS,
        trivial=trivial[name],
        trivial_name=name,
        columns={
            ASKED: [str(row[QUESTION]) for row in rows],
            RIGHT: [each[0] for each in right],
            ANSWERED: list(answers),
            SCORE: list(confidence),
            LENGTH: [len(str(row[CONTEXT])) for row in rows],
        },
    )


def first_sentence(context: str) -> str:
    """Up to the first full stop that ends a sentence."""
    match = _SENTENCE.match(context.strip())
    return match[0] if match else ""


def _scores(answers: Sequence[str], right: Sequence[Sequence[str]]) -> np.ndarray:
    return np.array([scores(*pair) for pair in zip(answers, right, strict=True)], np.float64)


def _mean(judged: Judged, weights_RN: np.ndarray, column: int) -> np.ndarray:
    return np.asarray(weights_RN @ judged.outputs[:, column] / weights_RN.sum(axis=1))
