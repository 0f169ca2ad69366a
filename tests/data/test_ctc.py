"""Reading CTC answers back: the collapse, and the probability of a text as the sum over all its alignments."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from noria.data.ctc import greedy, log_probabilities


def log_probability(answers: np.ndarray, text: Sequence[int]) -> float:
    return float(log_probabilities(answers, [text])[0])


def log_softmax(shape: tuple[int, int], seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal(shape)
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def collapse(path: tuple[int, ...]) -> list[int]:
    return [letter for letter, _ in itertools.groupby(path) if letter]


@pytest.mark.parametrize("path", [(0, 0), (1, 1, 0, 1), (2, 2, 2), (0, 1, 2, 2, 0, 2), (1,)])
def test_repeats_are_joined_and_blanks_left_out(path):
    assert greedy(np.eye(3, dtype=np.float32)[list(path)]) == collapse(path)


@pytest.mark.parametrize("text", [(), (1,), (1, 2), (1, 1), (2, 1, 2), (1, 1, 1)])
def test_the_probability_of_a_text_is_that_of_all_its_alignments(text):
    answers = log_softmax((5, 3), seed=len(text))
    paths = (path for path in itertools.product(range(3), repeat=5) if collapse(path) == list(text))
    expected = sum(math.exp(sum(float(answers[t, letter]) for t, letter in enumerate(path))) for path in paths)
    assert math.exp(log_probability(answers, text)) == pytest.approx(expected, rel=1e-5)


def test_all_texts_together_have_probability_one():
    answers = log_softmax((3, 3), seed=9)
    texts = {tuple(collapse(path)) for path in itertools.product(range(3), repeat=3)}
    assert sum(math.exp(log_probability(answers, text)) for text in texts) == pytest.approx(1, abs=1e-6)


def test_it_is_the_loss_that_training_minimizes():
    answers, text = log_softmax((40, 9), seed=1), [3, 3, 8, 1, 1, 1, 2]
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(answers)[:, None], torch.tensor([text]), [40], [len(text)], reduction="sum"
    )
    assert log_probability(answers, text) == pytest.approx(-float(loss), rel=1e-5)


def test_a_text_that_does_not_fit_is_impossible():
    assert log_probability(log_softmax((3, 3), seed=2), [1, 1, 1]) == -math.inf


def test_texts_of_all_lengths_together_are_as_probable_as_each_alone():
    answers = log_softmax((12, 5), seed=3)
    texts = [[], [1], [2, 2, 4], [1, 2, 3, 4, 1], [3] * 12]
    assert log_probabilities(answers, texts) == pytest.approx([log_probability(answers, text) for text in texts])
