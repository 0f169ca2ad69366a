"""Whether two samples differ, and by how much: exact tests by permutation, so that few rows raise no alarm.

Shape suffixes: N rows of the baseline, M new ones, B bins, R permutations, D dimensions.

Under no drift the two samples are exchangeable, so any statistic may be compared with its values over random
divisions of the pooled rows: the p-value (1 + hits) / (1 + R) is valid at every size (Phipson & Smyth 2010,
"Permutation p-values should never be zero"). The asymptotic laws (chi-squared for G and, times 1/N + 1/M, for the
population stability index: Yurdakul & Naranjo 2020, "Statistical properties of the population stability index") are
far off at ten rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.floating]

PERMUTATIONS = 9_999
_VECTOR_PERMUTATIONS = 4_999
_PER_ALPHA = 49
"""Permutations times alpha, at least: p-values are never smaller than one in so many, and shared by all features."""
_CHUNK = 500
_MOST_BINS = 10
_ROWS_PER_BIN = 5
_MOST_CATEGORIES = 30
_SMOOTHING = 0.5
_TINY = 1e-9


@dataclass(frozen=True)
class Difference:
    """How two samples differ.

    Attributes
    ----------
    value:
        The size: population stability index, or energy coefficient.
    p_value:
        Chance of so large a difference where there is none.
    by_chance:
        The size that no drift exceeds with probability alpha.
    jensen_shannon:
        Divergence in bits, 0 to 1; None of vectors.
    """

    value: float
    p_value: float
    by_chance: float
    jensen_shannon: float | None = None


def bin_numbers(old_N: Floats, new_M: Floats) -> tuple[Counts, Counts]:
    """Counts in quantile bins, (B,) each; NaN is a bin of its own.

    The edges are quantiles of both samples together: were they of one, it would be spread evenly by construction,
    and the samples would not be exchangeable. At least five rows of the smaller sample are expected in each.
    """
    pooled = np.concatenate([old_N, new_M])
    present = pooled[~np.isnan(pooled)]
    num_bins = int(np.clip(min(len(old_N), len(new_M)) // _ROWS_PER_BIN, 2, _MOST_BINS))
    inner = np.quantile(present, np.arange(1, num_bins) / num_bins) if len(present) else np.zeros(0)
    edges = np.unique(inner)
    return _binned(old_N, edges), _binned(new_M, edges)


def _binned(values: Floats, edges: Floats) -> Counts:
    places = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))
    return np.bincount(places, minlength=len(edges) + 2).astype(np.int64)


def bin_categories(old: Sequence[str], new: Sequence[str]) -> tuple[Counts, Counts]:
    """Counts by category, (B,) each; those of which less than one row is expected are one bin together."""
    names, places = np.unique(np.array([*old, *new], dtype=object).astype(str), return_inverse=True)
    total = np.bincount(places, minlength=len(names))
    expected = total * min(len(old), len(new)) / len(places)
    keep = np.zeros(len(names), bool)
    keep[np.argsort(-total, kind="stable")[:_MOST_CATEGORIES]] = True
    bins = np.where(keep & (expected >= 1), np.arange(len(names)), len(names))
    bins = np.unique(bins[places], return_inverse=True)[1]
    size = int(bins.max()) + 1
    return np.bincount(bins[: len(old)], minlength=size), np.bincount(bins[len(old) :], minlength=size)


def compare_counts(old_B: Counts, new_B: Counts, *, alpha: float, seed: int) -> Difference:
    """Population stability index with smoothed shares, Jensen-Shannon divergence, and the exact p-value of G.

    Given the pooled counts, the new sample's are multivariate hypergeometric under no drift: drawn, not approximated.
    G (the log likelihood ratio) orders them, since it needs no smoothing.
    """
    filled = (old_B + new_B) > 0
    old_B, new_B = old_B[filled], new_B[filled]
    pooled_B, num_new = old_B + new_B, int(new_B.sum())
    if len(pooled_B) < 2:
        return Difference(0.0, 1.0, 0.0, 0.0)
    generator = np.random.default_rng(seed)
    times = max(PERMUTATIONS, math.ceil(_PER_ALPHA / alpha))
    drawn_RB = generator.multivariate_hypergeometric(pooled_B, num_new, size=times, method="marginals")
    found = _log_likelihood_ratio(pooled_B, new_B[None])[0]
    hits = int((_log_likelihood_ratio(pooled_B, drawn_RB) >= found - _TINY).sum())
    by_chance = np.quantile(_stability_index(pooled_B - drawn_RB, drawn_RB), 1 - alpha)
    value = float(_stability_index(old_B[None], new_B[None])[0])
    return Difference(value, (1 + hits) / (1 + times), float(by_chance), _divergence(old_B, new_B))


def _log_likelihood_ratio(pooled_B: Counts, new_RB: Counts) -> Floats:
    """G of each division (R,): 2 sum O ln(O / E) over both rows of the table (Woolf 1957)."""
    num, num_new = pooled_B.sum(), new_RB.sum(axis=1, keepdims=True)
    total = np.zeros(len(new_RB))
    for observed, size in ((new_RB, num_new), (pooled_B - new_RB, num - num_new)):
        expected = pooled_B * (size / num)
        total += 2 * (observed * np.log(np.maximum(observed, 1) / expected)).sum(axis=1)
    return np.asarray(total)


def _stability_index(old_RB: Counts, new_RB: Counts) -> Floats:
    """Sum of (q - p) ln(q / p) over bins (R,), half a row added to each (Siddiqi 2006, "Credit Risk Scorecards")."""
    p, q = (
        (counts + _SMOOTHING) / (counts.sum(axis=1, keepdims=True) + _SMOOTHING * counts.shape[1])
        for counts in (old_RB, new_RB)
    )
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=1))


def _divergence(old_B: Counts, new_B: Counts) -> float:
    """Jensen-Shannon divergence in bits, both samples weighing the same (Lin 1991)."""
    p, q = old_B / old_B.sum(), new_B / new_B.sum()
    middle = (p + q) / 2
    return float(sum((r * np.log2(np.where(r > 0, r / middle, 1.0))).sum() for r in (p, q)) / 2)


def total_variation(old_B: Counts, new_B: Counts) -> float:
    """Half the sum of differences of shares: the share of rows that would have to change their category."""
    return float(np.abs(old_B / old_B.sum() - new_B / new_B.sum()).sum() / 2)


def compare_vectors(old_ND: Vectors, new_MD: Vectors, *, alpha: float, seed: int) -> Difference:
    """Energy coefficient of two samples of vectors, and its exact p-value.

    The energy distance is the maximum mean discrepancy (Gretton et al. 2012) of a kernel without a bandwidth to choose
    (Sejdinovic et al. 2013, arXiv:1207.6076); divided by twice the mean distance across, it lies between 0 and 1
    (Székely & Rizzo 2013, "Energy statistics"). Dimensions are scaled to variance one; a sample's distances to itself
    are left out, so that the value is 0 on average under no drift.
    """
    pooled = np.concatenate([old_ND, new_MD]).astype(np.float64)
    pooled = (pooled - pooled.mean(axis=0)) / np.maximum(pooled.std(axis=0), _TINY)
    squares = (pooled**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * pooled @ pooled.T, 0)).astype(np.float32)
    np.fill_diagonal(distances, 0)
    is_new = np.concatenate([np.zeros(len(old_ND), bool), np.ones(len(new_MD), bool)])
    generator, drawn = np.random.default_rng(seed), np.empty(max(_VECTOR_PERMUTATIONS, math.ceil(_PER_ALPHA / alpha)))
    for start in range(0, len(drawn), _CHUNK):
        size = min(_CHUNK, len(drawn) - start)
        drawn[start : start + size] = _energy(distances, generator.permuted(np.tile(is_new, (size, 1)), axis=1).T)
    value = float(_energy(distances, is_new[:, None])[0])
    hits = int((drawn >= value - 1e-6).sum())
    return Difference(value, (1 + hits) / (1 + len(drawn)), float(np.quantile(drawn, 1 - alpha)))


def _energy(distances: npt.NDArray[np.float32], is_new: npt.NDArray[np.bool_]) -> Floats:
    """Energy coefficient of each division, a column of `is_new` each (R,)."""
    new = is_new.astype(np.float32)
    to_new = distances @ new
    among_new = (new * to_new).sum(axis=0, dtype=np.float64)
    across = ((1 - new) * to_new).sum(axis=0, dtype=np.float64)
    among_old = float(distances.sum(dtype=np.float64)) - among_new - 2 * across
    m = is_new.sum(axis=0).astype(np.float64)
    n = len(is_new) - m
    mean_across = across / (n * m)
    energy = 2 * mean_across - among_new / np.maximum(m * (m - 1), 1) - among_old / np.maximum(n * (n - 1), 1)
    return np.asarray(energy / np.maximum(2 * mean_across, _TINY))


def adjust(p_values: Sequence[float]) -> list[float]:
    """P-values for all hypotheses at once (Holm 1979): the chance of any false alarm stays below alpha."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
