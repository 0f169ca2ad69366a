"""Pairs of texts to tensors: one byte-level vocabulary for both sides, so that no character is ever lost.

Fitted on the training rows and nothing else; saved as JSON; imports no torch. Case and white space stay
as they are. A text that looks like a special token is text: the tokenizer knows none, they are numbers.

A placeholder (noria.data.placeholders) is one token, its number among those of the source; an answer gets back
what the source has there, each once. So a model learns where placeholders go and need not spell them.

Shapes: B batch, S source tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from noria.config import TokenizerConfig
from noria.data.byte_pairs import token_ids, train_byte_pairs
from noria.data.codepoints import HAN, LETTER, codepoints, count_flags
from noria.data.encoder_files import load_encoder, save_encoder
from noria.data.placeholders import placeholder_name, split_placeholders
from noria.data.ragged import pad
from noria.errors import TrainingError

PAD, BEGIN, END = 0, 1, 2
_RESERVED = ["[PAD]", "[BEGIN]", "[END]"]
NUM_SLOTS = 16
"""Placeholders of a text that are tokens; further ones are spelled."""
_HAN_SHARE = 0.3
_KANA_HANGUL = range(0x3040, 0x3100), range(0xAC00, 0xD7B0), range(0x0E00, 0x0E80)
_MOST_CHARS = 20_000
MAX_NEW_TOKENS, TOKENS = "max_new_tokens", "tokens"
"""What the model is asked for at most, and what it says: see `noria.model.translator.Translator.forward`."""
_FIRST_TOKENS = 16  # of an answer that is sent while it is made


@dataclass(frozen=True)
class _Settings:
    """What `encoder.json` says."""

    source_column: str
    target_column: str
    max_tokens: int
    bleu_tokens: str
    num_slots: int = 0
    beams: int = 0
    """0: a bundle that was made before this was written down, whose graph takes no notice of `max_new_tokens`."""


class PairEncoder:
    """The fitted encoder; see `Encoder` and `Growing` in noria.scenarios.base for its protocols."""

    def __init__(self, tokenizer: Tokenizer, settings: _Settings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def max_tokens(self) -> int:
        """Of a side, begin and end included."""
        return self._settings.max_tokens

    @property
    def grows(self) -> bool:
        """Whether the beginning of an answer stays as it is: it may change as long as beams compete."""
        return self._settings.beams == 1

    @property
    def bleu_tokens(self) -> str:
        """What BLEU counts as words in the target's language: `13a`, `zh` or `char`."""
        return self._settings.bleu_tokens

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """`source` int64 (S): its tokens, and the end."""
        return self.encode_batch([values])[0]

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """Many rows, much faster than one by one; a source that is too long is cut off."""
        most = self.max_tokens - 1
        sources = self._column(rows, self._settings.source_column)
        return [{"source": np.array([*ids[:most], END], np.int64)} for ids in self._tokens(sources, sources)]

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """`target` int64 (T): begin, tokens, end; None where a side has more than `max_tokens`: half would be a lie."""
        sources = self._column(rows, self._settings.source_column)
        targets = self._column(rows, self._settings.target_column)
        most = self.max_tokens - 2
        return [
            {"target": np.array([BEGIN, *target, END], np.int64)} if max(len(source), len(target)) <= most else None
            for source, target in zip(self._tokens(sources, sources), self._tokens(targets, sources), strict=True)
        ]

    def collate(self, encoded: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Pad to (B, S); `max_new_tokens` int64 (B) are as many as may be, where no beginning is asked for."""
        asked = [int(row.get(MAX_NEW_TOKENS, self.max_tokens)) for row in encoded]
        return {"source": pad([row["source"] for row in encoded]), MAX_NEW_TOKENS: np.array(asked, np.int64)}

    def num_tokens(self, encoded: Mapping[str, np.ndarray]) -> int:
        """Of the source."""
        return len(encoded["source"])

    def beginnings(self, encoded: Mapping[str, np.ndarray]) -> list[Mapping[str, np.ndarray]]:
        """The same source for 16 tokens, for twice as many each time, and at last for all there may be.

        Each is computed from the first token on: see `DocumentEncoder.beginnings`. That is three times the work of one
        run at most.
        """
        asked = [_FIRST_TOKENS]
        while asked[-1] < self.max_tokens:
            asked.append(2 * asked[-1])
        return [{**encoded, MAX_NEW_TOKENS: np.array(number)} for number in asked]

    def is_whole(self, encoded: Mapping[str, np.ndarray], output: Mapping[str, np.ndarray]) -> bool:
        """Whether the end came, or the model's own limit, before the last token that was asked for."""
        tokens_T, asked = output[TOKENS], int(encoded[MAX_NEW_TOKENS])
        return len(tokens_T) < asked or END in tokens_T or asked >= self.max_tokens

    def decode(self, tokens_T: np.ndarray, *, source: str) -> str:
        """The text of an answer to `source`, up to its end.

        Bytes that are no character are left out, and placeholders that the source has not, or not as often.
        """
        ids = [int(token) for token in tokens_T]
        ids = [token for token in (ids[: ids.index(END)] if END in ids else ids) if token >= len(_RESERVED)]
        first, last = len(_RESERVED), len(_RESERVED) + self._settings.num_slots
        left = dict(zip(range(first, last), split_placeholders(source[:_MOST_CHARS])[1], strict=False))
        text = ""
        for token, run in groupby(ids, key=lambda token: min(token, last)):  # `last`: all that is spelled
            if token == last:
                text += str(self._tokenizer.decode(list(run), skip_special_tokens=False)).replace("\ufffd", "")
            else:
                text += left.pop(token, "")
        return text.strip()

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` and `encoder.json`."""
        save_encoder(directory, self._tokenizer, self._settings)

    def _column(self, rows: Sequence[Mapping[str, object]], name: str) -> list[str]:
        return [str(row[name])[:_MOST_CHARS] for row in rows]

    def _tokens(self, texts: Sequence[str], sources: Sequence[str]) -> list[list[int]]:
        """Of each text, whose placeholders have the numbers that they have in its source."""
        most = self._settings.num_slots
        rows = [_numbered(text, source, most=most) for text, source in zip(texts, sources, strict=True)]
        spelled = iter(token_ids(self._tokenizer, [part for row in rows for part in row if isinstance(part, str)]))
        return [
            [token for part in row for token in (next(spelled) if isinstance(part, str) else [len(_RESERVED) + part])]
            for row in rows
        ]


def _numbered(text: str, source: str, *, most: int) -> list[str | int]:
    """What stands around the placeholders of a text, and the number of each in its source; others stay text."""
    around, found = split_placeholders(text)
    numbers = _numbers(found, split_placeholders(source)[1][:most])
    parts: list[str | int] = []
    before = around[0]
    for place, (placeholder, behind) in enumerate(zip(found, around[1:], strict=True)):
        if place in numbers:
            parts += [before, numbers[place]]
            before = behind
        else:
            before += placeholder + behind
    return [*parts, before]


def _numbers(found: Sequence[str], own: Sequence[str]) -> dict[int, int]:
    """Which of a source's `own` each of the `found` is, by place: the very same, or else the next of its name."""
    numbers: dict[int, int] = {}
    for key in (str, placeholder_name):
        taken = set(numbers.values())
        free: dict[str, list[int]] = {}
        for number in reversed(range(len(own))):
            if number not in taken:
                free.setdefault(key(own[number]), []).append(number)
        for place, placeholder in enumerate(found):
            if place not in numbers and free.get(key(placeholder)):
                numbers[place] = free[key(placeholder)].pop()
    return numbers


def fit_pair_encoder(
    rows: Iterable[Mapping[str, object]],
    *,
    source_column: str,
    target_column: str,
    config: TokenizerConfig,
    beams: int = 0,
) -> PairEncoder:
    """Train the vocabulary on both sides together; `beams` are those of the model.

    Raises
    ------
    TrainingError
        When there is no text.
    """
    pairs = [(str(row[source_column])[:_MOST_CHARS], str(row[target_column])[:_MOST_CHARS]) for row in rows]
    if not pairs:
        raise TrainingError("there are no pairs to learn from", expected="training rows with both texts")
    texts = (part for pair in pairs for text in pair for part in split_placeholders(text)[0])
    slots = [f"[PLACEHOLDER {number}]" for number in range(1, NUM_SLOTS + 1)]
    settings = _Settings(
        source_column,
        target_column,
        config.max_tokens,
        bleu_tokens_of([target for _, target in pairs]),
        NUM_SLOTS,
        beams,
    )
    return PairEncoder(train_byte_pairs(texts, config, reserved=[*_RESERVED, *slots]), settings)


def bleu_tokens_of(targets: Sequence[str]) -> str:
    """`zh` where much of the letters is Han, `char` for other scripts without spaces, else `13a`."""
    codes, offsets = codepoints(targets)
    num_letters = max(int(count_flags(codes, offsets, LETTER).sum()), 1)
    unspaced = sum(int(((codes >= part.start) & (codes < part.stop)).sum()) for part in _KANA_HANGUL)
    if unspaced / num_letters > _HAN_SHARE:
        return "char"
    return "zh" if int(count_flags(codes, offsets, HAN).sum()) / num_letters > _HAN_SHARE else "13a"


def load_pair_encoder(directory: Path) -> PairEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When a file is missing.
    """
    return PairEncoder(*load_encoder(directory, _Settings, of="pairs"))
