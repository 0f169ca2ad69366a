"""Character n-grams as sparse features, computed over whole batches at once.

An n-gram is known by a 64-bit hash of its code points: vocabularies are sorted integer arrays, and
finding features is arithmetic and binary search instead of millions of small strings. A collision
needs about 2**32 distinct n-grams to become likely.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from noria.data.ragged import Ragged

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, close to 2**64 / golden ratio
_CHUNK_ROWS = 10_000

Weighting = Literal["idf", "class_ratio"]


@dataclass(frozen=True)
class NgramFeatures:
    """A vocabulary of n-grams and what each is worth.

    Attributes
    ----------
    hashes:
        uint64, sorted; the feature id of `hashes[i]` is i + 1, and 0 is padding.
    weights:
        float32, one per hash.
    max_ngram:
        Features are the n-grams of 1 to so many characters.
    weighting:
        "idf": damped term frequency times inverse document frequency; "class_ratio": presence times ratio.
    """

    hashes: NDArray[np.uint64]
    weights: NDArray[np.float32]
    max_ngram: int
    weighting: Weighting

    def __len__(self) -> int:
        return len(self.hashes)

    def encode(self, texts: Sequence[str]) -> tuple[Ragged, Ragged]:
        """Feature ids (int64, ascending) and values (float32, unit length) of every text."""
        hashes, rows = _hash_ngrams(texts, self.max_ngram)
        at = np.searchsorted(self.hashes, hashes)
        known = at < len(self.hashes)
        known[known] = self.hashes[at[known]] == hashes[known]
        cells, counts = np.unique(rows[known] * len(self.hashes) + at[known], return_counts=True)
        row, feature = np.divmod(cells, len(self.hashes))
        tf = 1.0 + np.log(counts) if self.weighting == "idf" else 1.0
        values = tf * self.weights[feature].astype(np.float64)
        norm = np.sqrt(np.bincount(row, weights=values**2, minlength=len(texts)))
        values /= np.maximum(norm[row], 1e-12)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(texts)))])
        return Ragged(feature + 1, offsets), Ragged(values.astype(np.float32), offsets)

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        save_file({"hashes": self.hashes, "weights": self.weights}, path)
        path.chmod(0o644)  # safetensors makes private files; artifacts are shared

    @classmethod
    def load(cls, path: Path, *, max_ngram: int, weighting: Weighting) -> NgramFeatures:
        """Read what `save` wrote."""
        arrays = load_file(path)
        return cls(arrays["hashes"], arrays["weights"], max_ngram, weighting)


def fit_ngrams(
    texts: Sequence[str], classes: NDArray[np.int64], *, max_ngram: int, min_rows: int, weighting: Weighting
) -> NgramFeatures:
    """The n-grams of at least `min_rows` of the texts; `classes` are class numbers from 0."""
    num_classes = int(classes.max()) + 1
    hashes, counts = _merge(
        _count_rows(texts[start : start + _CHUNK_ROWS], classes[start : start + _CHUNK_ROWS], max_ngram, num_classes)
        for start in range(0, len(texts), _CHUNK_ROWS)
    )
    total = counts.sum(1)
    keep = total >= min_rows
    hashes, counts, total = hashes[keep], counts[keep], total[keep]
    if weighting == "idf":
        weights = np.log((1 + len(texts)) / (1 + total)) + 1
    else:
        # Spread of the smoothed log-shares over the classes: for two classes half of |log-count ratio|.
        # The sign is left to the linear model, which is free to choose it.
        shares = np.log((counts + 1) / (counts + 1).sum(0))
        weights = shares.std(1)
    return NgramFeatures(hashes, weights.astype(np.float32), max_ngram, weighting)


def _count_rows(
    texts: Sequence[str], classes: NDArray[np.int64], max_ngram: int, num_classes: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct n-grams of some texts, and in how many rows of each class they occur: (N), (N, C)."""
    hashes, rows = _hash_ngrams(texts, max_ngram)
    distinct, at = np.unique(hashes, return_inverse=True)
    cells = np.unique(at * len(texts) + rows)
    ngram, row = np.divmod(cells, len(texts))
    counts = np.bincount(ngram * num_classes + classes[row], minlength=len(distinct) * num_classes)
    return distinct, counts.reshape(-1, num_classes)


def _merge(
    parts: Iterable[tuple[NDArray[np.uint64], NDArray[np.int64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    hashes, counts = zip(*parts, strict=True)
    distinct, at = np.unique(np.concatenate(hashes), return_inverse=True)
    total = np.zeros((len(distinct), counts[0].shape[1]), dtype=np.int64)
    np.add.at(total, at, np.concatenate(counts))
    return distinct, total


def _hash_ngrams(texts: Sequence[str], max_ngram: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hash of every n-gram of every text, and the text it is in."""
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    rows = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(codes))  # characters from here to the text's end
    hashes, owners = [], []
    rolling = np.zeros_like(codes)
    for n in range(1, max_ngram + 1):
        rolling = rolling[: len(codes) - n + 1] * _MULTIPLIER + codes[n - 1 :] + np.uint64(1)
        inside = left[: len(rolling)] >= n
        hashes.append(rolling[inside])
        owners.append(rows[: len(rolling)][inside])
    return np.concatenate(hashes), np.concatenate(owners)
