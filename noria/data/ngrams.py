"""Character n-grams as sparse features, computed over whole batches at once.

An n-gram is known by a 64-bit hash of its code points: vocabularies are sorted integer arrays, and
finding features is arithmetic and binary search instead of millions of small strings. A collision
needs about 2**32 distinct n-grams to become likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from noria.data.ragged import Ragged

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, close to 2**64 / golden ratio
_CHUNK_ROWS = 10_000
_CHUNK_CHARS = 500_000


@dataclass(frozen=True)
class NgramFeatures:
    """A vocabulary of n-grams and what each is worth.

    Attributes
    ----------
    hashes:
        uint64, sorted; the feature id of `hashes[i]` is i + 1, and 0 is padding.
    weights:
        float32, one per hash: inverse document frequency.
    max_ngram:
        Features are the n-grams of 1 to so many characters.
    """

    hashes: NDArray[np.uint64]
    weights: NDArray[np.float32]
    max_ngram: int

    def __len__(self) -> int:
        return len(self.hashes)

    def encode(self, texts: Sequence[str]) -> tuple[Ragged, Ragged]:
        """Feature ids (int64, ascending) and values (float32, unit length) of every text.

        A value is (1 + ln count) times the inverse document frequency, as in scikit-learn's
        TfidfVectorizer(analyzer="char", sublinear_tf=True). A part of the texts at a time: memory stays flat.
        """
        parts = [self._encode(texts[part]) for part in _parts(texts)]
        ids, values = (np.concatenate([arrays[i].values for arrays in parts]) for i in range(2))
        lengths = np.concatenate([ids.lengths for ids, _ in parts])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Ragged(ids, offsets), Ragged(values, offsets)

    def _encode(self, texts: Sequence[str]) -> tuple[Ragged, Ragged]:
        hashes, rows = _hash_ngrams(texts, self.max_ngram)
        order = np.argsort(hashes)  # neighbours are searched for in memory that is at hand: half the time
        hashes, rows = hashes[order], rows[order]
        at = np.searchsorted(self.hashes, hashes)
        known = at < len(self.hashes)
        known[known] = self.hashes[at[known]] == hashes[known]
        cells, counts = np.unique(rows[known] * len(self.hashes) + at[known], return_counts=True)
        row, feature = np.divmod(cells, len(self.hashes))
        values = (1.0 + np.log(counts)) * self.weights[feature]
        norm = np.sqrt(np.bincount(row, weights=values**2, minlength=len(texts)))
        values /= np.maximum(norm[row], 1e-12)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(texts)))])
        return Ragged(feature + 1, offsets), Ragged(values.astype(np.float32), offsets)

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        save_file({"hashes": self.hashes, "weights": self.weights}, path)
        path.chmod(0o644)  # safetensors makes private files; artifacts are shared

    @classmethod
    def load(cls, path: Path, *, max_ngram: int) -> NgramFeatures:
        """Read what `save` wrote."""
        arrays = load_file(path)
        return cls(arrays["hashes"], arrays["weights"], max_ngram)


def fit_ngrams(texts: Sequence[str], *, max_ngram: int, min_rows: int) -> NgramFeatures:
    """The n-grams of at least `min_rows` of the texts."""
    parts = [_count_rows(texts[start : start + _CHUNK_ROWS], max_ngram) for start in range(0, len(texts), _CHUNK_ROWS)]
    hashes, at = np.unique(np.concatenate([hashes for hashes, _ in parts]), return_inverse=True)
    num_rows = np.bincount(at, weights=np.concatenate([counts for _, counts in parts]))
    keep = num_rows >= min_rows
    idf = np.log((1 + len(texts)) / (1 + num_rows[keep])) + 1
    return NgramFeatures(hashes[keep], idf.astype(np.float32), max_ngram)


def _parts(texts: Sequence[str]) -> list[slice]:
    """Slices of at most `_CHUNK_CHARS` characters, or of one text that is longer."""
    ends = np.cumsum([len(text) for text in texts])
    parts, start = [], 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK_CHARS, side="right")))
        parts.append(slice(start, stop))
        start = stop
    return parts


def _count_rows(texts: Sequence[str], max_ngram: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct n-grams of some texts, and in how many of the texts each occurs."""
    hashes, rows = _hash_ngrams(texts, max_ngram)
    distinct, at = np.unique(hashes, return_inverse=True)
    cells = np.unique(at * len(texts) + rows)
    return distinct, np.bincount(cells // len(texts), minlength=len(distinct))


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
