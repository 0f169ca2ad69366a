"""Which characters of a text each token and each n-gram covers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from noria.data.ngrams import NgramFeatures
from noria.data.text_encoder import TextEncoder


@dataclass(frozen=True)
class Pieces:
    """Half-open spans of characters.

    Attributes
    ----------
    tokens:
        Of each token, int64 (tokens, 2).
    ngrams:
        Of each occurrence of an n-gram that the model knows: feature id, start, end, int64 (occurrences, 3).
    """

    tokens: NDArray[np.int64]
    ngrams: NDArray[np.int64]


def pieces_of(text: str, encoder: TextEncoder, *, max_ngram: int) -> Pieces:
    """The pieces of a normalized text. The encoder is asked through its files, which are its public form."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        encoder.save(directory)
        tokens = _token_spans(text, directory / "tokenizer.json", max_tokens=encoder.max_tokens)
        features = None
        if encoder.num_ngrams:
            features = NgramFeatures.load(directory / "ngrams.safetensors", max_ngram=max_ngram)
    return Pieces(tokens, ngram_spans(text, features) if features else np.empty((0, 3), dtype=np.int64))


def ngram_spans(text: str, features: NgramFeatures) -> NDArray[np.int64]:
    """(feature id, start, end) of every occurrence of a known n-gram.

    The id of an n-gram is the one that its text has and its two parts, shorter by a character, have not.
    """
    lengths = range(1, features.max_ngram + 1)
    substrings = list({text[i : i + n] for n in lengths for i in range(len(text) - n + 1)})
    if not substrings:
        return np.empty((0, 3), dtype=np.int64)
    ids, _ = features.encode(substrings)
    known = {substring: frozenset(ids[row].tolist()) for row, substring in enumerate(substrings)}
    known[""] = frozenset()
    own = {part: known[part] - known[part[:-1]] - known[part[1:]] for part in substrings}
    spans = [(number, i, i + n) for n in lengths for i in range(len(text) - n + 1) for number in own[text[i : i + n]]]
    return np.asarray(spans, dtype=np.int64).reshape(-1, 3)


def _token_spans(text: str, tokenizer: Path, *, max_tokens: int) -> NDArray[np.int64]:
    """Head and tail of a text that is too long; a text without tokens is one unknown token."""
    offsets = Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False).offsets or [(0, len(text))]
    head = max_tokens // 2
    tail = max_tokens - head
    kept = offsets if len(offsets) <= max_tokens else offsets[:head] + offsets[-tail:]
    return np.asarray(kept, dtype=np.int64)
