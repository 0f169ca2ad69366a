"""Documents and prompts to tensors: byte-level tokens, which give every text back as it was.

Fitted on the training rows and nothing else; saved as JSON; imports no torch. A row is a document to be judged
or learned from; a request is a prompt to go on from, with how. Both have the same tensors, one of them empty.

A document longer than the model's context is judged in windows that overlap by half, so that every token but
those of the first window is judged with at least half a context before it, and each exactly once.

Shapes: N tokens of a document, and its end; B batch, W windows, C context, P prompt, G new tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from noria.config import GenerationConfig, TokenizerConfig
from noria.data.byte_pairs import bytes_of_pieces, token_ids, train_byte_pairs
from noria.data.encoder_files import load_encoder, save_encoder
from noria.data.ragged import pad
from noria.errors import TrainingError

PAD, BOUNDARY = 0, 1
_RESERVED = ["[PAD]", "[BOUNDARY]"]
DOCUMENT, PROMPT, WINDOWS = "document", "prompt", "windows"
MAX_NEW_TOKENS, TEMPERATURE, TOP_K, TOP_P, UNIFORM = "max_new_tokens", "temperature", "top_k", "top_p", "uniform"
TOKENS = "tokens"
"""What the model says of a prompt: see `noria.model.language_model.LanguageModel.forward`."""
_CONTINUED_ONE_IN = 8
_FIRST_TOKENS = 16  # of an answer that is sent while it is made
_SHOWN_PROMPT, _SHOWN_TOKENS, _SHOWN_TEMPERATURE = 48, 32, 0.8


@dataclass(frozen=True)
class _Settings:
    """What `encoder.json` says."""

    max_tokens: int
    max_new_tokens: int
    beams: int = 0
    """0: a bundle that was made before this was written down."""


@dataclass(frozen=True)
class Sampling:
    """How a text goes on: see `noria.model.generation.Sampling`."""

    max_new_tokens: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


class DocumentEncoder:
    """The fitted encoder; see `Encoder` and `Growing` in noria.scenarios.base for its protocols."""

    def __init__(self, tokenizer: Tokenizer, settings: _Settings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._pieces = bytes_of_pieces(tokenizer, num_reserved=len(_RESERVED))

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def max_tokens(self) -> int:
        """The context, C."""
        return self._settings.max_tokens

    @property
    def grows(self) -> bool:
        """Whether the beginning of an answer stays as it is: it may change as long as beams compete."""
        return self._settings.beams == 1

    @property
    def piece_bytes(self) -> np.ndarray:
        """How many bytes each token stands for, int64 (vocabulary); a boundary is none."""
        return np.array([len(piece) for piece in self._pieces])

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """One row or request; see `encode_batch`."""
        return self.encode_batch([values])[0]

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """Of each `document` int32 (N + 2): boundary, tokens, boundary; empty for a request.

        And how a prompt goes on: `prompt` int64 (P), `max_new_tokens` and `top_k` int64 (1), `temperature` and
        `top_p` float32 (1), `uniform` float32 (G): the draws. Of one document in eight the beginning is a prompt
        too, so that the evaluation can show how the model goes on.
        """
        texts = [_text_of(row) for row in rows]
        encoded = []
        for row, ids in zip(rows, token_ids(self._tokenizer, texts), strict=True):
            if PROMPT in row:
                document, prompted = np.zeros(0, np.int32), self._prompted(ids, _sampling_of(row))
            else:
                document = np.array([BOUNDARY, *ids, BOUNDARY], np.int32)
                prompted = self._prompted(*_shown(ids))
            encoded.append({DOCUMENT: document, **prompted})
        return encoded

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """Nothing beside the document: it is the target. None where there is no text."""
        return [{} if row["text"] else None for row in rows]

    def collate(self, encoded: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """`windows` int64 (B, W, C + 1), of which each token but the first is asked for; the rest padded to (B, …)."""
        documents = [row[DOCUMENT] for row in encoded]
        context = min(self.max_tokens, max(1, *(len(document) - 1 for document in documents)))
        windows = [_windows(document, context) for document in documents]
        num_windows = max(1, *map(len, windows))  # one of padding, where nothing is to be judged
        filled = np.zeros((len(encoded), num_windows, context + 1), np.int64)
        for row, parts in zip(filled, windows, strict=True):
            for window, part in zip(row, parts, strict=False):
                window[:] = part
        numbers = {name: np.concatenate([row[name] for row in encoded]) for name in _NUMBERS}
        return {WINDOWS: filled, **{name: pad([row[name] for row in encoded]) for name in (PROMPT, UNIFORM)}, **numbers}

    def num_tokens(self, encoded: Mapping[str, np.ndarray]) -> int:
        """Of the document, or of the prompt and what follows."""
        return len(encoded[DOCUMENT]) or len(encoded[PROMPT]) + int(encoded[MAX_NEW_TOKENS][0])

    def beginnings(self, encoded: Mapping[str, np.ndarray]) -> list[Mapping[str, np.ndarray]]:
        """The same request for 16 new tokens or a few less, for twice as many each time, and at last for all.

        Each begins at the prompt again, which doubles the work at most, and takes the same draws. To go on from the
        text so far would read at once what was said step by step, and int8 rounds the two differently.
        """
        asked = [int(encoded[MAX_NEW_TOKENS][0])]
        while asked[-1] > _FIRST_TOKENS:
            asked.append(-(-asked[-1] // 2))
        return [{**encoded, MAX_NEW_TOKENS: np.array([number])} for number in reversed(asked)]

    def is_whole(self, encoded: Mapping[str, np.ndarray], output: Mapping[str, np.ndarray]) -> bool:
        """Whether a boundary came before the last token that was asked for."""
        new_tokens = output[TOKENS][len(encoded[PROMPT]) - 1 :][: int(encoded[MAX_NEW_TOKENS][0])]
        return bool(np.isin(new_tokens, (PAD, BOUNDARY)).any())

    def judged(self, log_probs_WC: np.ndarray, num_asked: int) -> np.ndarray:
        """Of `num_asked` tokens of a document, each once, what was said in the windows of `collate`: (N + 1)."""
        context = log_probs_WC.shape[1]
        later = log_probs_WC[1:, context - _stride(context) :].reshape(-1)
        return np.concatenate([log_probs_WC[0], later])[:num_asked]

    def decode(self, tokens_T: np.ndarray) -> str:
        """The text of tokens, up to a boundary or padding; bytes that are no character are left out."""
        return b"".join(self._pieces[token] for token in _before_end(tokens_T)).decode("utf-8", "ignore")

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json` and `encoder.json`."""
        save_encoder(directory, self._tokenizer, self._settings)

    def _prompted(self, ids: Sequence[int], how: Sampling) -> dict[str, np.ndarray]:
        """A prompt that is too long for the context keeps its end, and is then no beginning of a document."""
        num_new = min(how.max_new_tokens, self._settings.max_new_tokens)
        room = self.max_tokens - num_new
        prompt = [BOUNDARY, *ids][-room:]
        uniform_G = np.random.default_rng(how.seed).random(max(num_new, 1), np.float32)
        return {
            PROMPT: np.array(prompt, np.int64),
            UNIFORM: uniform_G,
            MAX_NEW_TOKENS: np.array([num_new]),
            TEMPERATURE: np.array([how.temperature], np.float32),
            TOP_K: np.array([how.top_k]),
            TOP_P: np.array([how.top_p], np.float32),
        }


_NUMBERS = (MAX_NEW_TOKENS, TEMPERATURE, TOP_K, TOP_P)


def _text_of(row: Mapping[str, object]) -> str:
    """Without halves of characters: no bytes are theirs."""
    text = row[PROMPT] if PROMPT in row else row["text"]
    return str(text or "").encode("utf-8", "replace").decode("utf-8")


def _sampling_of(request: Mapping[str, object]) -> Sampling:
    given = {name: request[name] for name in Sampling.__dataclass_fields__ if name in request}
    return Sampling(**given)  # type: ignore[arg-type]


def _shown(ids: Sequence[int]) -> tuple[Sequence[int], Sampling]:
    """Whether and how a document's beginning is gone on from, by what it says: the same whatever is beside it."""
    number = sum(ids)
    if number % _CONTINUED_ONE_IN or len(ids) <= _SHOWN_PROMPT:
        return [], Sampling()
    temperature = _SHOWN_TEMPERATURE if number % (2 * _CONTINUED_ONE_IN) else 0.0
    return ids[:_SHOWN_PROMPT], Sampling(_SHOWN_TOKENS, temperature, top_p=0.95)


def _windows(document: np.ndarray, context: int) -> list[np.ndarray]:
    """(W, C + 1): each begins half a context behind the one before; the last is filled up with padding."""
    num_asked, stride = len(document) - 1, _stride(context)
    if num_asked <= 0:
        return []
    num_windows = 1 + max(0, -(-(num_asked - context) // stride))
    filled = np.pad(document, (0, max(0, (num_windows - 1) * stride + context + 1 - len(document))))
    return [filled[start : start + context + 1] for start in range(0, num_windows * stride, stride)]


def _stride(context: int) -> int:
    return -(-context // 2)


def _before_end(tokens_T: np.ndarray) -> list[int]:
    ids = [int(token) for token in tokens_T]
    return ids[: next((place for place, token in enumerate(ids) if token in (PAD, BOUNDARY)), len(ids))]


def fit_document_encoder(
    rows: Iterable[Mapping[str, object]], *, tokenizer: TokenizerConfig, generation: GenerationConfig
) -> DocumentEncoder:
    """Learn the vocabulary.

    Raises
    ------
    TrainingError
        When there is no text.
    """
    texts = [text for text in map(_text_of, rows) if text]
    if not texts:
        raise TrainingError("there are no documents to learn from", expected="training rows with a text")
    settings = _Settings(tokenizer.max_tokens, min(generation.max_tokens, tokenizer.max_tokens // 2), generation.beams)
    return DocumentEncoder(train_byte_pairs(texts, tokenizer, reserved=_RESERVED), settings)


def load_document_encoder(directory: Path) -> DocumentEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When a file is missing.
    """
    return DocumentEncoder(*load_encoder(directory, _Settings, of="documents"))
