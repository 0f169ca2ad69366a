"""Token vectors from co-occurrence: where pretraining starts from, worth several epochs of it.

The positive pointwise mutual information of neighbouring tokens, factorized (Levy & Goldberg 2014,
"Neural word embedding as implicit matrix factorization"); from the training rows alone.

Shapes: V vocabulary, D model dimension, P pairs.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noria.data.ragged import Ragged

_MAX_TOKENS = 4_000_000  # more change little and cost memory
_SMOOTHING = 0.75  # of the context distribution, as in word2vec
_OVERSAMPLING = 10
_POWER_ITERATIONS = 2


def cooccurrence_vectors(
    token_ids: Ragged, *, vocabulary_size: int, dim: int, window: int, std: float, seed: int
) -> Tensor | None:
    """Vectors float32 (V, D) with standard deviation `std`; neighbours at distance k count 1/k up to `window`.

    None where no token has a neighbour that it attracts: rows of one token each say nothing.
    """
    pairs, weights = _count_pairs(token_ids, vocabulary_size=vocabulary_size, window=window)
    left, right = np.divmod(pairs, vocabulary_size)
    left_total = np.bincount(left, weights=weights, minlength=vocabulary_size) + 1e-9
    right_share = left_total**_SMOOTHING / (left_total**_SMOOTHING).sum()
    information = np.log(weights / (left_total[left] * right_share[right]))
    positive = information > 0
    if not positive.any():
        return None
    matrix_VV = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([left[positive], right[positive]])),
        torch.from_numpy(information[positive].astype(np.float32)),
        size=(vocabulary_size, vocabulary_size),
        check_invariants=False,
    )
    vectors_VD = _left_factor(matrix_VV.coalesce(), dim=dim, seed=seed)
    return vectors_VD * (std / vectors_VD.std())


def _count_pairs(
    token_ids: Ragged, *, vocabulary_size: int, window: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs in both orders, as left * V + right in ascending order, and their weighted counts."""
    num_rows = max(1, int(np.searchsorted(token_ids.offsets, _MAX_TOKENS, side="right")) - 1)
    ids = np.array(token_ids.values[: token_ids.offsets[num_rows]], dtype=np.int64)
    rows = np.repeat(np.arange(num_rows), token_ids.lengths[:num_rows])
    keys, weights = [], []
    for distance in range(1, window + 1):
        same_row = rows[distance:] == rows[:-distance]
        first, second = ids[:-distance][same_row], ids[distance:][same_row]
        for left, right in ((first, second), (second, first)):
            key, count = np.unique(left * vocabulary_size + right, return_counts=True)
            keys.append(key)
            weights.append(count / distance)
    pairs, at = np.unique(np.concatenate(keys), return_inverse=True)
    return pairs.astype(np.int64), np.bincount(at, weights=np.concatenate(weights)).astype(np.float64)


def _left_factor(matrix_VV: Tensor, *, dim: int, seed: int) -> Tensor:
    """U sqrt(S) of a randomized singular value decomposition (Halko et al. 2011, arXiv:0909.4061)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        rows_first, columns_first = matrix_VV.to_sparse_csr(), matrix_VV.t().coalesce().to_sparse_csr()
    size = len(matrix_VV)
    rank = min(dim + _OVERSAMPLING, size)
    basis = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed))
    for _ in range(_POWER_ITERATIONS + 1):
        basis = torch.linalg.qr(rows_first @ basis).Q
        basis = torch.linalg.qr(columns_first @ basis).Q
    basis = torch.linalg.qr(rows_first @ basis).Q
    u, s, _ = torch.linalg.svd((columns_first @ basis).mT, full_matrices=False)
    vectors = torch.zeros(size, dim)
    kept = min(dim, rank)
    vectors[:, :kept] = (basis @ u[:, :kept]) * s[:kept].sqrt()
    return vectors
