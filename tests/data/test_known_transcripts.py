"""Known transcripts win where the best path bends, and lose where something new is said."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.data.ctc import log_probabilities
from noria.data.known_transcripts import KnownTranscripts, known_transcripts, most_probable

ONE, TWO = [1, 2], [3, 2]


def answers(path: list[int], *, other: int | None = None, at: int = 0, sure: float = 0.9) -> np.ndarray:
    """Log-probabilities (T, 5) of a path; at one frame `other` is nearly as probable."""
    probability_TV = np.full((len(path), 5), (1 - sure) / 4)
    probability_TV[np.arange(len(path)), path] = sure
    if other is not None:
        probability_TV[at] = 0.02
        probability_TV[at, [path[at], other]] = 0.5, 0.44
    return np.log(probability_TV / probability_TV.sum(1, keepdims=True)).astype(np.float32)


def test_a_letter_that_a_new_voice_bends_is_read_as_what_is_said_in_training():
    bent = answers([1, 0, 4, 0], other=2, at=2)  # 1 4, which nobody says
    letters, log_p = most_probable(bent, [ONE, TWO], new_share=0.001)
    assert letters == ONE
    assert log_p == pytest.approx(float(log_probabilities(bent, [ONE])[0]))


def test_what_is_clearly_something_new_is_spelt():
    assert most_probable(answers([1, 0, 4, 0, 1], sure=0.999), [ONE, TWO], new_share=0.001)[0] == [1, 4, 1]


def test_silence_says_nothing():
    assert most_probable(answers([0, 0, 0, 0], sure=0.99), [ONE, TWO], new_share=0.001)[0] == []


def test_without_known_transcripts_the_best_path_is_the_answer():
    assert most_probable(answers([1, 0, 4, 0], other=2, at=2), [], new_share=1.0)[0] == [1, 4]


def test_the_share_of_what_is_new_is_that_of_transcripts_that_came_once():
    assert known_transcripts(["yes"] * 6 + ["no"] * 3) == KnownTranscripts(("no", "yes"), 1 / 10)
    assert known_transcripts(["yes", "no", "maybe"]).new_share == 1.0
    assert known_transcripts([]) == KnownTranscripts()


def test_too_many_to_try_are_none():
    assert known_transcripts(f"sentence {i} of many" for i in range(1_000)) == KnownTranscripts()


@given(st.integers(0, 1_000), st.lists(st.lists(st.integers(1, 4), max_size=4), max_size=6), st.floats(1e-6, 1.0))
def test_no_known_text_is_more_probable_than_the_answer_and_none_is_surer_than_certain(seed, known, new_share):
    logits = np.random.default_rng(seed).standard_normal((8, 5))
    logits = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    _, log_p = most_probable(logits, known, new_share=new_share)
    assert log_p <= 1e-6
    assert all(log_p >= other - 1e-9 for other in log_probabilities(logits, [*known, []])[: len(known)])
    assert not math.isnan(log_p)
