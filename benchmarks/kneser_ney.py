"""Interpolated modified Kneser-Ney n-grams (Chen & Goodman 1999, "An empirical study of smoothing techniques").

    p(w | h) = (c(h w) - D(c(h w))) / c(h) + gamma(h) p(w | h'),   h' being h without its first token

with three discounts an order, from the numbers n1 to n4 of n-grams that occur once to four times (their equations
26 and 27); c is the count at the highest order and, below it, the number of distinct tokens before. The lowest order
is interpolated with the uniform distribution, so every token has a probability, and all of them sum to 1.

Shapes: G distinct n-grams of an order, H distinct contexts, N positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.float64]

_WORD_BITS = 64


@dataclass(frozen=True)
class _Order:
    """n-grams as numbers (their tokens are digits), ascending, with counts; contexts with what belongs to them."""

    keys: Keys
    counts: Counts
    discounts: Counts
    """Of counts 0, 1, 2, and 3 or more."""
    contexts: Keys
    totals: Counts
    gammas: Counts


class KneserNey:
    """The model. Documents are int (N + 2): a boundary, tokens, a boundary; tokens are below `vocabulary_size`."""

    def __init__(self, documents: Sequence[np.ndarray], *, order: int, vocabulary_size: int, boundary: int) -> None:
        if vocabulary_size**order >= 2**_WORD_BITS:
            raise ValueError(f"{order}-grams over {vocabulary_size:,} tokens do not fit into {_WORD_BITS} bits")
        self._order, self._size, self._boundary = order, vocabulary_size, boundary
        grams = np.concatenate([self._grams(document)[order] for document in documents])
        keys, counts = np.unique(grams, return_counts=True)
        self._orders = {order: self._counted(keys, counts)}
        for lower in range(order - 1, 0, -1):
            keys, counts = np.unique(keys % np.uint64(self._size**lower), return_counts=True)
            self._orders[lower] = self._counted(keys, counts)

    def probabilities(self, document: np.ndarray) -> Counts:
        """Of each token of a document but its first boundary, given those before it: float64 (N + 1)."""
        grams = self._grams(document)
        result = np.full(len(document) - 1, 1 / self._size)
        for order in range(1, self._order + 1):
            result = self._interpolated(self._orders[order], grams[order], result)
        return result

    def bits(self, document: np.ndarray) -> float:
        """What an ideal coder led by the model needs for a document, its end included."""
        return float(-np.log2(self.probabilities(document)).sum())

    def _interpolated(self, order: _Order, grams: Keys, lower: Counts) -> Counts:
        counts = _looked_up(order.keys, order.counts, grams)
        contexts = grams // np.uint64(self._size)
        totals = _looked_up(order.contexts, order.totals, contexts)
        gammas = _looked_up(order.contexts, order.gammas, contexts)
        discounted = counts - order.discounts[np.minimum(counts, 3).astype(np.int64)]
        known = totals > 0
        return np.where(known, discounted / np.where(known, totals, 1) + gammas * lower, lower)

    def _counted(self, keys: Keys, counts: npt.NDArray[np.int64]) -> _Order:
        discounts = _discounts(counts)
        contexts, first = np.unique(keys // np.uint64(self._size), return_index=True)
        totals = np.add.reduceat(counts, first).astype(np.float64)
        taken = np.add.reduceat(discounts[np.minimum(counts, 3)], first)
        return _Order(keys, counts.astype(np.float64), discounts, contexts, totals, taken / totals)

    def _grams(self, document: np.ndarray) -> dict[int, Keys]:
        """By order, the n-gram that ends at each token but the first; before a document there are boundaries alone."""
        before = np.full(self._order - 1, self._boundary)
        tokens = np.concatenate([before[1:], document]).astype(np.uint64)
        num = len(document) - 1
        grams, result = np.zeros(num, np.uint64), {}
        for order in range(1, self._order + 1):
            start = len(tokens) - num - (order - 1)
            grams = tokens[start : start + num] * np.uint64(self._size ** (order - 1)) + grams
            result[order] = grams
        return result


def _discounts(counts: npt.NDArray[np.int64]) -> Counts:
    """Chen & Goodman's D1, D2 and D3+, behind a 0; fixed ones where too few n-grams occur to tell."""
    n1, n2, n3, n4 = (int((counts == number).sum()) for number in range(1, 5))
    if not (n1 and n2 and n3):
        return np.array([0.0, 0.5, 0.75, 0.75])
    share = n1 / (n1 + 2 * n2)
    found = [1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3]
    return np.array([0.0, *(min(max(value, 0.0), number) for number, value in enumerate(found, 1))])


def _looked_up(keys: Keys, values: Counts, wanted: Keys) -> Counts:
    """The value of each wanted key; 0 where it is not among `keys`, which ascend."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0.0)
