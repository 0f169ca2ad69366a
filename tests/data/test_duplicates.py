"""Near duplicates: what brute force finds, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.duplicates import Keys, bands_for, first_equal, jaccard, near_duplicate_clusters, similar_pairs


def grams(text):
    text = text.ljust(3, "\0")
    return {text[i : i + 3] for i in range(len(text) - 2)}


def similarity(left, right):
    return len(grams(left) & grams(right)) / len(grams(left) | grams(right))


def array_of(texts):
    keys = Keys()
    for start in range(0, len(texts), 7):  # in batches, as a stage does
        keys.extend(texts[start : start + 7])
    return keys.array()


def brute_force_clusters(texts, threshold):
    root = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            if similarity(texts[i], texts[j]) >= threshold:
                a, b = root[i], root[j]
                root = [min(a, b) if r in (a, b) else r for r in root]
    return root


def noisy_texts(seed, *, num_texts=40, num_copies=4):
    """Texts and copies of them with more and more characters replaced, shuffled."""
    generator = np.random.default_rng(seed)
    alphabet = np.array(list("物流很快质量好不错喜欢推荐下次再来买的价格服务态度房间干净"))
    texts = []
    for _ in range(num_texts):
        original = generator.choice(alphabet, generator.integers(1, 90))
        for _ in range(num_copies):
            copy = original.copy()
            hit = generator.random(len(copy)) < generator.uniform(0, 0.08)
            copy[hit] = generator.choice(alphabet, hit.sum())
            texts.append("".join(copy))
    generator.shuffle(texts)
    return texts


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_clusters_are_those_of_brute_force(threshold):
    texts = noisy_texts(seed=int(threshold * 10))
    expected = brute_force_clusters(texts, threshold)
    assert len(set(expected)) < len(set(texts)), "the sample must hold near duplicates"
    assert near_duplicate_clusters(array_of(texts), threshold=threshold).tolist() == expected


def test_all_pairs_are_found_and_only_true_ones():
    texts = sorted(set(noisy_texts(seed=3)))
    expected = {
        (i, j) for j in range(len(texts)) for i in range(j) if similarity(texts[i], texts[j]) >= 0.7
    }  # fmt: skip
    rows = np.arange(len(texts))
    found = set()
    for left, right in similar_pairs(
        array_of(texts), rows=rows, threshold=0.7, wanted=lambda left, right: np.ones(len(left), bool)
    ):
        found |= set(zip(left.tolist(), right.tolist(), strict=True))
    assert found == expected


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(alphabet="ab好\U00020000", min_size=1, max_size=12), min_size=2, max_size=12))
def test_jaccard_is_that_of_the_sets_of_3_grams(texts):
    left, right = np.arange(len(texts)), np.arange(len(texts))[::-1].copy()
    expected = [similarity(texts[i], texts[j]) for i, j in zip(left, right, strict=True)]
    assert jaccard(array_of(texts), left, right).tolist() == pytest.approx(expected)


def test_threshold_one_means_equal_texts_only():
    texts = ["很好", "很好", "很好很好很好很好", "很好很好很好很好很好"]
    assert near_duplicate_clusters(array_of(texts), threshold=1.0).tolist() == [0, 0, 2, 3]
    assert first_equal(array_of(texts)).tolist() == [0, 0, 2, 3]


def test_no_texts_have_no_clusters():
    assert near_duplicate_clusters(array_of([]), threshold=0.9).tolist() == []


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_miss_a_pair_at_the_threshold_once_in_a_million(threshold):
    bands = bands_for(threshold)
    assert bands.num * bands.width <= 128
    assert (1 - threshold**bands.width) ** bands.num <= 1e-6
