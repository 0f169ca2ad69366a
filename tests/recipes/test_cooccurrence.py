"""Token vectors from the company that tokens keep."""

import math

import numpy as np
import torch
from training_fixtures import ragged

from noria.recipes.cooccurrence import cooccurrence_vectors


def test_tokens_in_like_company_get_like_vectors() -> None:
    rng = np.random.default_rng(0)
    topics = [np.asarray([5, 6, 7, 8]), np.asarray([15, 16, 17, 18])]
    rows = [rng.choice(topics[i % 2], 8) for i in range(400)]
    vectors = cooccurrence_vectors(ragged(rows), vocabulary_size=20, dim=4, window=4, std=0.05, seed=0)
    again = cooccurrence_vectors(ragged(rows), vocabulary_size=20, dim=4, window=4, std=0.05, seed=0)
    assert vectors is not None and again is not None
    assert torch.equal(vectors, again) and math.isclose(float(vectors.std()), 0.05, rel_tol=1e-4)
    near = torch.nn.functional.normalize(vectors, dim=-1)
    assert near[5] @ near[6] > 0.9 > 0.5 > abs(near[5] @ near[15])


def test_rows_of_one_token_say_nothing_about_neighbours() -> None:
    rows = [np.asarray([token]) for token in range(3, 20)]
    assert cooccurrence_vectors(ragged(rows), vocabulary_size=20, dim=4, window=4, std=0.05, seed=0) is None
