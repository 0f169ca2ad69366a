"""Equal and nearly equal texts among many: character 3-grams, MinHash and LSH, verified by true Jaccard similarity.

MinHash: Broder 1997, "On the resemblance and containment of documents". Two texts of similarity s
agree in one MinHash with probability s, so they share a band of r of them with probability s^r and at
least one of b bands with 1 - (1 - s^r)^b; `bands_for` picks b and r so that a pair at the threshold is
missed once in a million. Candidates are then compared 3-gram by 3-gram, so no pair is reported that is not one.

Shapes: R = rows, S = 3-grams of a batch, B = bands, P = pairs. Texts stay in one Arrow array, band
keys in one uint64 array: a process that compares a million reviews peaks below 1 GB.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noria.data.codepoints import codepoints

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Wanted = Callable[[Indices, Indices], Mask]

_MISS_PROBABILITY = 1e-6
_MAX_HASHES = 128
_MAX_NEIGHBOURS = 128
"""In a band, a text is compared with at most so many others after it: bounds the work on hostile data. Texts that
share a band and are *not* duplicates come in handfuls, and duplicates are joined by their nearest neighbour."""
_BATCH_ROWS = 8_192
_PAIR_BITS = 16  # pairs that are compared at once; 47 bits are left for the 3-gram, one for its side


@dataclass(frozen=True)
class Bands:
    """How MinHashes are grouped: `num` bands of `width` hashes each."""

    num: int
    width: int


def bands_for(threshold: float) -> Bands:
    """The widest bands (fewest false candidates) that miss a pair of similarity `threshold` once in a million."""
    best = Bands(num=_MAX_HASHES, width=1)
    for width in range(1, _MAX_HASHES + 1):
        num = math.ceil(math.log(_MISS_PROBABILITY) / math.log1p(-min(threshold**width, 1 - 1e-12)))
        if num * width > _MAX_HASHES:
            return best
        best = Bands(num=num, width=width)
    return best


class Keys:
    """Texts under comparison, appended batch by batch, UTF-8 end to end in one buffer."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = [np.zeros(1, dtype=np.int64)]

    def extend(self, texts: Sequence[str]) -> None:
        """Append `texts`."""
        encoded = [text.encode("utf-8") for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        self._ends.append(len(self._bytes) + np.cumsum(lengths))
        self._bytes += b"".join(encoded)

    def array(self) -> pa.LargeStringArray:
        """All texts, without a copy."""
        ends = np.concatenate(self._ends)
        return pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(self._bytes))


def first_equal(keys: pa.LargeStringArray) -> Indices:
    """For each text the row where it occurs first, int64 (R,). Texts are told apart by 128-bit digests."""
    digests = np.empty(len(keys), dtype="S16")
    for start in range(0, len(keys), _BATCH_ROWS):
        texts = keys.slice(start, _BATCH_ROWS).cast(pa.large_binary()).to_pylist()
        digests[start : start + len(texts)] = [hashlib.blake2b(text, digest_size=16).digest() for text in texts]
    _, first, codes = np.unique(digests, return_index=True, return_inverse=True)
    named: Indices = first[codes].astype(np.int64)
    return named


def near_duplicate_clusters(keys: pa.LargeStringArray, *, threshold: float) -> Indices:
    """For each text the first row of its cluster, int64 (R,).

    Clusters are the connected components of "Jaccard similarity of 3-grams at least `threshold`".
    """
    root = first_equal(keys)
    if threshold >= 1.0:
        return root
    rows = np.unique(root)

    def apart(left: Indices, right: Indices) -> Mask:
        return np.not_equal(root[left], root[right])

    for left, right in similar_pairs(keys, rows=rows, threshold=threshold, wanted=apart):
        _join(root, left, right)
    return root


def _join(root: Indices, left: Indices, right: Indices) -> None:
    """Merge the clusters of each pair in place; a cluster is named by its smallest row."""
    while (apart := root[left] != root[right]).any():
        left, right = left[apart], right[apart]
        smaller = np.minimum(root[left], root[right])
        np.minimum.at(root, root[left], smaller)
        np.minimum.at(root, root[right], smaller)
        while (root != (above := root[root])).any():
            root[:] = above


def similar_pairs(
    keys: pa.LargeStringArray, *, rows: Indices, threshold: float, wanted: Wanted
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of `rows` (ascending) with Jaccard similarity of at least `threshold`: (left, right), left < right.

    `wanted(left, right)` is asked before pairs are compared, each time anew, so that a caller who
    keeps count of what it has learnt saves the comparisons whose answer it knows.
    """
    bands = _band_keys(keys, rows, bands_for(threshold))
    for number, band in enumerate(bands):
        for left, right in _candidates(band):
            chosen = wanted(rows[left], rows[right])
            left, right = left[chosen], right[chosen]
            new = ~(bands[:number, left] == bands[:number, right]).any(axis=0)  # not compared in an earlier band
            left, right = rows[left[new]], rows[right[new]]
            for start in range(0, len(left), 1 << _PAIR_BITS):
                part = slice(start, start + (1 << _PAIR_BITS))
                similar = jaccard(keys, left[part], right[part]) >= threshold
                if similar.any():
                    yield left[part][similar], right[part][similar]


def _candidates(band: Hashes) -> Iterator[tuple[Indices, Indices]]:
    """Positions with an equal key, neighbours first: each run of equal keys is compared at distance 1, 2, …"""
    order = np.argsort(band, kind="stable")
    ordered = band[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(starts, append=len(ordered))
    after = np.repeat(starts + lengths, lengths)  # where the run of each position ends
    position = np.arange(len(ordered))
    for distance in range(1, _MAX_NEIGHBOURS + 1):
        position = position[position + distance < after[position]]
        if not len(position):
            return
        yield order[position], order[position + distance]


def _band_keys(keys: pa.LargeStringArray, rows: Indices, bands: Bands) -> Hashes:
    """One key per band and row, uint64 (B, R): rows with equal keys agree in all MinHashes of the band."""
    generator = np.random.default_rng(0)  # the hash functions are part of the definition, not of the run
    factors = generator.integers(0, 1 << 31, size=(bands.num, bands.width), dtype=np.uint32) * np.uint32(2) + 1
    shifts = generator.integers(0, 1 << 32, size=(bands.num, bands.width), dtype=np.uint32)
    result = np.zeros((bands.num, len(rows)), dtype=np.uint64)
    for start in range(0, len(rows), _BATCH_ROWS):
        grams, offsets = shingles(keys.take(pa.array(rows[start : start + _BATCH_ROWS])).to_pylist())
        hashes = (_mix(grams) >> np.uint64(32)).astype(np.uint32)
        for band in range(bands.num):
            key = result[band, start : start + len(offsets) - 1]
            for factor, shift in zip(factors[band], shifts[band], strict=True):
                key[:] = _mix(key ^ np.minimum.reduceat(hashes * factor + shift, offsets[:-1]))
    return result


def shingles(texts: Sequence[str]) -> tuple[Hashes, Indices]:
    """Character 3-grams of `texts`, exact, uint64 (S,), repeats included, and their offsets, int64 (R + 1,).

    A text of fewer than three characters is filled up with U+0000, so that every text has a 3-gram.
    """
    codes, offsets = codepoints([text if len(text) > 2 else text.ljust(3, "\0") for text in texts])
    wide = codes.astype(np.uint64)
    grams = wide[:-2] | wide[1:-1] << np.uint64(21) | wide[2:] << np.uint64(42)
    inside = np.ones(len(grams), dtype=bool)
    inside[offsets[1:-1] - 1] = False  # the 3-grams that start in one text and end in the next
    inside[offsets[1:-1] - 2] = False
    return grams[inside], offsets - 2 * np.arange(len(offsets))


def jaccard(keys: pa.LargeStringArray, left: Indices, right: Indices) -> npt.NDArray[np.float64]:
    """Jaccard similarity of the 3-gram sets of each pair, float64 (P,), at most 2**16 pairs.

    3-grams are compared by 47-bit digests: a wrong match inside one pair of reviews is a matter of 1 in 10**10.
    """
    grams = np.concatenate((_tagged_grams(keys, left, side=0), _tagged_grams(keys, right, side=1)))
    grams.sort()
    grams = grams[np.concatenate(([True], grams[1:] != grams[:-1]))]  # np.unique would hash, five times slower
    is_shared = grams[1:] >> np.uint64(1) == grams[:-1] >> np.uint64(1)
    pair = (grams >> np.uint64(64 - _PAIR_BITS)).astype(np.int64)
    num_shared = np.bincount(pair[1:][is_shared], minlength=len(left))
    return num_shared / (np.bincount(pair, minlength=len(left)) - num_shared)


def _tagged_grams(keys: pa.LargeStringArray, rows: Indices, *, side: int) -> Hashes:
    """The 3-grams of `rows`; from the top bit: position in `rows` (16), digest of the 3-gram (47), `side` (1)."""
    grams, offsets = shingles(keys.take(pa.array(rows)).to_pylist())
    position = np.repeat(np.arange(len(rows), dtype=np.uint64), np.diff(offsets))
    digest = _mix(grams) >> np.uint64(_PAIR_BITS + 1)
    return position << np.uint64(64 - _PAIR_BITS) | digest << np.uint64(1) | np.uint64(side)


def _mix(values: npt.NDArray[np.uint64]) -> Hashes:
    """A bijection of 64-bit values that scatters them (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
