"""The baseline of language modelling: a distribution, and the one that the paper's formulas give."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.kneser_ney import KneserNey

BOUNDARY, SIZE = 1, 12


def documents(num: int = 40, size: int = SIZE) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    texts = (rng.zipf(1.5, rng.integers(0, 30)) % (size - 2) + 2 for _ in range(num))
    return [np.array([BOUNDARY, *text, BOUNDARY]) for text in texts]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_probabilities_of_all_tokens_sum_to_one_behind_any_context(order: int) -> None:
    model = KneserNey(documents(), order=order, vocabulary_size=SIZE, boundary=BOUNDARY)
    rng = np.random.default_rng(1)
    for length in [0, 1, 2, 5, 9] * 4:
        context = rng.integers(2, SIZE, length)
        said = [model.probabilities(np.array([BOUNDARY, *context, token, BOUNDARY]))[length] for token in range(SIZE)]
        assert min(said) > 0
        assert sum(said) == pytest.approx(1, abs=1e-12)


def plain(context: tuple[int, ...], token: int, counts: dict[int, Counter], size: int) -> float:
    """The recursion written as the paper has it, with dictionaries."""
    order = len(context) + 1
    below = plain(context[1:], token, counts, size) if context else 1 / size
    grams = counts[order]
    with_context = {gram: count for gram, count in grams.items() if gram[:-1] == context}
    if not with_context:
        return below
    n1, n2, n3, n4 = (sum(count == number for count in grams.values()) for number in range(1, 5))
    assert n1 and n2 and n3, "too few n-grams for discounts"
    share = n1 / (n1 + 2 * n2)
    discount = [0, 1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3]
    discount = [min(max(value, 0), number) for number, value in enumerate(discount)]
    total = sum(with_context.values())
    gamma = sum(discount[min(count, 3)] for count in with_context.values()) / total
    count = grams.get((*context, token), 0)
    return (count - discount[min(count, 3)]) / total + gamma * below


def test_it_says_what_the_formulas_of_the_paper_say() -> None:
    size, training = 400, documents(300, size=400)
    model = KneserNey(training, order=3, vocabulary_size=size, boundary=BOUNDARY)
    padded = [(BOUNDARY, *map(int, document)) for document in training]
    trigrams = Counter(text[i : i + 3] for text in padded for i in range(len(text) - 2))
    bigrams = Counter(gram[1:] for gram in trigrams)
    counts = {3: trigrams, 2: bigrams, 1: Counter(gram[1:] for gram in bigrams)}
    document = np.array([BOUNDARY, 3, 4, 3, 9, 11, 2, 200, 3, BOUNDARY])
    said = model.probabilities(document)
    text = (BOUNDARY, *map(int, document))
    for place in range(len(document) - 1):
        expected = plain(text[place : place + 2], text[place + 2], counts, size)
        assert said[place] == pytest.approx(expected, rel=1e-12)


def test_a_document_seen_in_training_costs_less_than_one_that_was_not() -> None:
    training = documents()
    model = KneserNey(training, order=5, vocabulary_size=SIZE, boundary=BOUNDARY)
    longest = max(training, key=len)
    other = np.array([BOUNDARY, *np.random.default_rng(5).integers(2, SIZE, len(longest) - 2), BOUNDARY])
    assert model.bits(longest) < model.bits(other) / 2


def test_orders_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        KneserNey(documents(), order=5, vocabulary_size=10_000, boundary=BOUNDARY)
