"""Questions and contexts to tensors, and spans of tokens back to characters of the context.

Words are runs of letters, runs of digits, single characters of scripts that write no spaces, and single
signs, each with its combining marks; an answer is whole words. Inside words, byte-level pieces learned
from the training rows (no character is ever unknown). Case is folded, character by character, so that
offsets stay; white space is between words and in no token. Imports no torch.

Shapes: Q question tokens, C context tokens, T positions of a window.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Regex, Tokenizer, models, pre_tokenizers, trainers

from noria.config import SpansConfig, TokenizerConfig
from noria.data.answers import place_of
from noria.data.encoder_files import load_encoder, save_encoder
from noria.data.ragged import pad
from noria.data.squad import ANSWER, CONTEXT, QUESTION
from noria.data.windows import Span, Window, best_span, windows_of
from noria.errors import TrainingError
from noria.scenarios.base import Tensors

PAD, NO_ANSWER, SEPARATOR = 0, 1, 2
_RESERVED = ["[PAD]", "[NO ANSWER]", "[SEPARATOR]"]
NO_KIND, ASKED, ASKED_AND_THERE, EMPTY, THERE, THERE_AND_ASKED = range(6)
"""What a position is: padding, of the question (and also in the context), the empty answer, of the context (and
also in the question): exact matches as features (Chen et al. 2017, arXiv:1704.00051, 3.2)."""
NUM_KINDS, FIRST_READABLE = 6, EMPTY
"""An answer begins and ends at positions of the kinds from `FIRST_READABLE` on."""
TOKEN_IDS, KINDS, SPAN = "token_ids", "kinds", "span"
QUESTION_KINDS, CONTEXT_KINDS = "question_kinds", "context_kinds"
LOGITS = "logits"

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_SIGN = r"[^\s\p{L}\p{N}][\p{M}\x{1F3FB}-\x{1F3FF}]*"
_WORD = (
    rf"[{_UNSPACED}]\p{{M}}*|[\p{{L}}&&[^{_UNSPACED}]][\p{{L}}\p{{M}}&&[^{_UNSPACED}]]*|\p{{N}}+"
    rf"|{_SIGN}(?:\x{{200D}}{_SIGN})*"
)


@dataclass(frozen=True)
class _Settings:
    """What `encoder.json` says."""

    max_tokens: int
    overlap: int
    max_question_tokens: int
    max_answer_tokens: int
    may_refuse: bool


@dataclass(frozen=True)
class Tokens:
    """A text in tokens, (C) each.

    Attributes
    ----------
    starts, ends:
        Characters of the token's word.
    begins, closes:
        bool: the first token of its word, the last one.
    words:
        Number of the token's word.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    begins: np.ndarray
    closes: np.ndarray
    words: np.ndarray

    def cover(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last token of the words that have a character in `start:end`; None where there is none."""
        inside = np.flatnonzero((self.ends > start) & (self.starts < end))
        return (int(inside[0]), int(inside[-1])) if len(inside) else None


@dataclass(frozen=True)
class Answer:
    """A part of a context: `text` is `context[start:end]`; -1 and -1 where there is no answer."""

    text: str
    start: int
    end: int
    score: float


class SpanEncoder:
    """The fitted encoder; see noria.scenarios.base.Encoder and InPieces for its protocols."""

    def __init__(self, tokenizer: Tokenizer, settings: _Settings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def max_tokens(self) -> int:
        return self._settings.max_tokens

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """`question`, `question_kinds` int64 (Q); `context`, `context_kinds` int64 (C), however long."""
        return self.encode_batch([values])[0]

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """Many rows; a context that several share is read once."""
        contexts = self._tokens([str(row[CONTEXT]) for row in rows])
        questions = self._tokens([str(row[QUESTION]) for row in rows])
        encoded = []
        for row, context, question in zip(rows, contexts, questions, strict=True):
            asked, there = _words(str(row[QUESTION]), question), _words(str(row[CONTEXT]), context)
            both = {word for word in asked if any(map(str.isalnum, word))} & set(there)
            kept = self._kept(len(question.ids))
            encoded.append(
                {
                    QUESTION: question.ids[kept],
                    QUESTION_KINDS: _kinds(question, asked, both, (ASKED, ASKED_AND_THERE))[kept],
                    CONTEXT: context.ids,
                    CONTEXT_KINDS: _kinds(context, there, both, (THERE, THERE_AND_ASKED)),
                }
            )
        return encoded

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """`span` int64 (2): first and last token of the answer, -1 and -1 where there is none.

        None where the answer has no certain place, or more than `max_answer_tokens`.
        """
        found: list[dict[str, np.ndarray] | None] = []
        for row, context in zip(rows, self._tokens([str(row[CONTEXT]) for row in rows]), strict=True):
            place = place_of(row)
            span = context.cover(place.start, place.start + len(place.text)) if place.start >= 0 else None
            if not row[ANSWER]:
                found.append({SPAN: np.array([-1, -1])})
            elif span is None or span[1] - span[0] >= self._settings.max_answer_tokens:
                found.append(None)
            else:
                found.append({SPAN: np.array(span)})
        return found

    def windows(self, num_question: int, num_context: int) -> list[Window]:
        """The windows of a row, from the lengths of its tensors."""
        settings = self._settings
        return windows_of(num_question, num_context, max_tokens=settings.max_tokens, overlap=settings.overlap)

    def pieces(self, encoded: Tensors) -> list[dict[str, np.ndarray]]:
        """A window each: `token_ids`, `kinds` int64 (T)."""
        windows = self.windows(len(encoded[QUESTION]), len(encoded[CONTEXT]))
        return [read_window(encoded, window) for window in windows]

    def join(self, outputs: Sequence[Tensors]) -> dict[str, np.ndarray]:
        """`logits` float32 (W, T, 2), as wide as the widest."""
        width = max(len(output[LOGITS]) for output in outputs)
        joined = np.zeros((len(outputs), width, 2), np.float32)
        for target, output in zip(joined, outputs, strict=True):
            target[: len(output[LOGITS])] = output[LOGITS]
        return {LOGITS: joined}

    def collate(self, encoded: Sequence[Tensors]) -> dict[str, np.ndarray]:
        """Pad windows to (B, T)."""
        return {name: pad([row[name] for row in encoded]) for name in (TOKEN_IDS, KINDS)}

    def num_tokens(self, encoded: Tensors) -> int:
        """Of a window."""
        return len(encoded[TOKEN_IDS])

    def answers(self, rows: Sequence[Mapping[str, object]], outputs: Sequence[Tensors]) -> list[Answer]:
        """The answers that the joined outputs stand for."""
        contexts = self._tokens([str(row[CONTEXT]) for row in rows])
        lengths = [len(tokens.ids) for tokens in self._tokens([str(row[QUESTION]) for row in rows])]
        return [
            self._answer(str(row[CONTEXT]), context, self.windows(len(self._kept(length)), len(context.ids)), output)
            for row, context, length, output in zip(rows, contexts, lengths, outputs, strict=True)
        ]

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` and `encoder.json`."""
        save_encoder(directory, self._tokenizer, self._settings)

    def tokens(self, text: str) -> Tokens:
        """A text in tokens, with where each of them is."""
        return _located(self._tokenizer.encode(fold(text), add_special_tokens=False))

    def _answer(self, text: str, context: Tokens, windows: Sequence[Window], output: Tensors) -> Answer:
        span: Span = best_span(
            output[LOGITS],
            windows,
            begins_C=context.begins,
            ends_C=context.closes,
            max_answer_tokens=self._settings.max_answer_tokens,
            may_refuse=self._settings.may_refuse,
        )
        if span.first < 0:
            return Answer("", -1, -1, span.score)
        start, end = int(context.starts[span.first]), int(context.ends[span.last])
        return Answer(text[start:end], start, end, span.score)

    def _kept(self, length: int) -> np.ndarray:
        """Which tokens of a question are read: all, or of a long one its head and its tail."""
        most = self._settings.max_question_tokens
        head = most // 2
        return np.arange(length) if length <= most else np.r_[0:head, length - (most - head) : length]

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        distinct = list(dict.fromkeys(texts))
        encodings = self._tokenizer.encode_batch([fold(text) for text in distinct], add_special_tokens=False)
        found = {text: _located(encoding) for text, encoding in zip(distinct, encodings, strict=True)}
        return [found[text] for text in texts]


def read_window(encoded: Tensors, window: Window) -> dict[str, np.ndarray]:
    """`token_ids` and `kinds` int64 (T) of a window: the empty answer, the question, a separator, the context."""
    context = slice(window.first, window.last)
    rows = {
        TOKEN_IDS: (NO_ANSWER, encoded[QUESTION], SEPARATOR, encoded[CONTEXT][context]),
        KINDS: (EMPTY, encoded[QUESTION_KINDS], ASKED, encoded[CONTEXT_KINDS][context]),
    }
    return {name: np.concatenate([np.atleast_1d(part) for part in parts]) for name, parts in rows.items()}


def fold(text: str) -> str:
    """Lower case of as many characters."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)


def fit_span_encoder(
    rows: Iterable[Mapping[str, object]], *, tokenizer: TokenizerConfig, spans: SpansConfig
) -> SpanEncoder:
    """Train the vocabulary on questions and distinct contexts; see whether there are rows without an answer.

    Raises
    ------
    TrainingError
        When there are no rows, or a question may leave no room for a context.
    """
    if 2 * (spans.max_question_tokens + 2) > tokenizer.max_tokens:
        raise TrainingError(
            f"questions of {spans.max_question_tokens} tokens take over half of a window of {tokenizer.max_tokens}",
            where="params.yaml: model.spans.max_question_tokens",
            expected=f"at most {tokenizer.max_tokens // 2 - 2}, or a larger tokenizer.max_tokens",
        )
    texts: dict[str, None] = {}
    may_refuse = False
    for row in rows:
        texts[fold(str(row[CONTEXT]))] = texts[fold(str(row[QUESTION]))] = None
        may_refuse = may_refuse or not row[ANSWER]
    if not texts:
        raise TrainingError("there are no questions to learn from", expected="training rows")
    trained = _tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=tokenizer.vocabulary_size,
        min_frequency=2,
        max_token_length=tokenizer.max_piece_chars,
        special_tokens=_RESERVED,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer, length=len(texts))
    learned = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    settings = _Settings(
        tokenizer.max_tokens, spans.overlap, spans.max_question_tokens, spans.max_answer_tokens, may_refuse
    )
    return SpanEncoder(_tokenizer(models.BPE(vocab=learned["vocab"], merges=merges)), settings)


def load_span_encoder(directory: Path) -> SpanEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When a file is missing.
    """
    return SpanEncoder(*load_encoder(directory, _Settings, of="questions"))


def _tokenizer(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    words = pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pieces])
    return tokenizer


def _located(encoding: Encoding) -> Tokens:
    words = np.array(encoding.word_ids, np.int64)
    offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    changes = np.flatnonzero(np.diff(words, prepend=-1, append=-1)) if len(words) else np.zeros(0, np.int64)
    begins, closes = np.zeros(len(words), bool), np.zeros(len(words), bool)
    firsts, lasts = changes[:-1], changes[1:] - 1
    begins[firsts], closes[lasts] = True, True
    sizes = lasts - firsts + 1
    return Tokens(
        ids=np.array(encoding.ids, np.int64),
        starts=np.repeat(offsets[firsts, 0], sizes),
        ends=np.repeat(offsets[lasts, 1], sizes),
        begins=begins,
        closes=closes,
        words=np.repeat(np.arange(len(firsts)), sizes),
    )


def _words(text: str, tokens: Tokens) -> list[str]:
    """The words, folded, in their order."""
    folded = fold(text)
    pairs = zip(tokens.starts[tokens.begins].tolist(), tokens.ends[tokens.begins].tolist(), strict=True)
    return [folded[start:end] for start, end in pairs]


def _kinds(tokens: Tokens, words: Sequence[str], both: set[str], kinds: tuple[int, int]) -> np.ndarray:
    alone, shared = kinds
    by_word = np.array([shared if word in both else alone for word in words], np.int64)
    return np.asarray(by_word[tokens.words])
