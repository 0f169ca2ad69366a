"""Text to tensors: subword tokens for the Transformer, character n-grams for the linear branch.

Fitted on the training rows and nothing else; saved as JSON and safetensors; imports no torch, since
the server and the data nodes use it. The same text gives the same tensors in training, evaluation
and serving, because normalization is part of it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from noria.config import TokenizerConfig, WideConfig
from noria.data.ngrams import NgramFeatures, fit_ngrams
from noria.data.ragged import Ragged, pad
from noria.errors import ArtifactError, TrainingError

PAD, UNKNOWN, MASK = 0, 1, 2
_SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[MASK]"]
NUM_SPECIAL = len(_SPECIAL_TOKENS)
_MOST_CHARS = 20_000
_CLAUSE_MARKS = frozenset(",.!?;:~、。…")  # after normalization


@dataclass(frozen=True)
class _Settings:
    """What `encoder.json` says."""

    text_column: str
    label_column: str
    labels: tuple[str, ...]
    max_tokens: int
    max_ngram: int


class TextEncoder:
    """The fitted encoder; see noria.scenarios.base.Encoder for its protocol."""

    def __init__(self, tokenizer: Tokenizer, ngrams: NgramFeatures | None, settings: _Settings) -> None:
        self._tokenizer = tokenizer
        self._ngrams = ngrams
        self._settings = settings

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return self._settings.labels

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def max_tokens(self) -> int:
        return self._settings.max_tokens

    @property
    def clause_ends(self) -> frozenset[int]:
        """Ids of the tokens that end a clause."""
        vocabulary = self._tokenizer.get_vocab()
        return frozenset(number for token, number in vocabulary.items() if set(token) <= _CLAUSE_MARKS)

    @property
    def num_ngrams(self) -> int:
        """Distinct n-grams; 0 without the wide branch."""
        return 0 if self._ngrams is None else len(self._ngrams)

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """`token_ids` int64 (T) and, with the wide branch, `ngram_ids` int64 and `ngram_values` float32 (G)."""
        return self.encode_batch([values])[0]

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """Many rows, much faster than one by one."""
        if not rows:
            return []
        texts = [normalize(str(row[self._settings.text_column])) for row in rows]
        tensors: dict[str, Sequence[np.ndarray]] = {"token_ids": self._tokenize(texts)}
        if self._ngrams is not None:
            ids, values = self._ngrams.encode(texts)
            tensors |= {"ngram_ids": _rows_of(ids), "ngram_values": _rows_of(values)}
        return [dict(zip(tensors, arrays, strict=True)) for arrays in zip(*tensors.values(), strict=True)]

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """`class` int64 (1); None for a label that no row to fit has."""
        numbers = {label: np.array([number]) for number, label in enumerate(self.labels)}
        found = (numbers.get(str(row[self._settings.label_column])) for row in rows)
        return [None if number is None else {"class": number} for number in found]

    def collate(self, encoded: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Pad to (B, T) and (B, G)."""
        return {name: pad([row[name] for row in encoded]) for name in encoded[0]}

    def num_tokens(self, encoded: Mapping[str, np.ndarray]) -> int:
        """Subword tokens."""
        return len(encoded["token_ids"])

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json`, `encoder.json` and, with the wide branch, `ngrams.safetensors`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(directory / "tokenizer.json"))
        (directory / "encoder.json").write_text(json.dumps(asdict(self._settings), indent=2, ensure_ascii=False) + "\n")
        if self._ngrams is not None:
            self._ngrams.save(directory / "ngrams.safetensors")

    def _tokenize(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids; a row that is too long keeps its head and its tail, an empty one is unknown."""
        head = self._settings.max_tokens // 2
        tail = self._settings.max_tokens - head
        rows = []
        for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False):
            ids = encoding.ids or [UNKNOWN]
            rows.append(np.asarray(ids if len(ids) <= head + tail else ids[:head] + ids[-tail:], dtype=np.int64))
        return rows


def fit_text_encoder(
    rows: Iterable[Mapping[str, object]],
    *,
    text_column: str,
    label_column: str,
    tokenizer: TokenizerConfig,
    wide: WideConfig,
) -> TextEncoder:
    """Train the tokenizer, and collect the n-grams and the labels.

    Raises
    ------
    TrainingError
        When there are fewer than two classes.
    """
    texts, names = [], []
    for row in rows:
        texts.append(normalize(str(row[text_column])))
        names.append(str(row[label_column]))
    labels = sorted(set(names))
    if len(labels) < 2:
        raise TrainingError(
            f"the training rows hold {len(labels)} class(es)",
            where=f"column `{label_column}`",
            expected="at least two different labels",
            next_step="check `source` in params.yaml: where the label comes from",
        )
    settings = _Settings(text_column, label_column, tuple(labels), tokenizer.max_tokens, wide.max_ngram)
    ngrams = None
    if wide.enabled:
        ngrams = fit_ngrams(texts, max_ngram=wide.max_ngram, min_rows=wide.min_rows)
    return TextEncoder(_train_tokenizer(texts, tokenizer), ngrams, settings)


def load_text_encoder(directory: Path) -> TextEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When a file is missing.
    """
    try:
        values: dict[str, Any] = json.loads((directory / "encoder.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            "there is no text encoder here", where=str(directory), expected="encoder.json, tokenizer.json"
        ) from None
    settings = _Settings(**{**values, "labels": tuple(values["labels"])})
    path = directory / "ngrams.safetensors"
    ngrams = None
    if path.exists():
        ngrams = NgramFeatures.load(path, max_ngram=settings.max_ngram)
    return TextEncoder(Tokenizer.from_file(str(directory / "tokenizer.json")), ngrams, settings)


def normalize(text: str) -> str:
    """Compatibility forms unified (NFKC), lower case, single spaces.

    NFKC makes up to 18 characters of one, so what is then far too long keeps its head and its tail.
    """
    unified = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    return unified if len(unified) <= _MOST_CHARS else unified[: _MOST_CHARS // 2] + unified[-_MOST_CHARS // 2 :]


def _train_tokenizer(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """Byte-pair encoding over characters (Sennrich et al. 2016, arXiv:1508.07909) with short pieces.

    Chinese has no spaces: without a limit the vocabulary fills with whole clauses.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        min_frequency=2,
        max_token_length=config.max_piece_chars,
        special_tokens=_SPECIAL_TOKENS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def _rows_of(ragged: Ragged) -> list[np.ndarray]:
    return np.split(ragged.values, ragged.offsets[1:-1])
