"""Byte-pair encoding over bytes: no character is ever unknown, and every text comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from noria.config import TokenizerConfig


def train_byte_pairs(texts: Iterable[str], config: TokenizerConfig, *, reserved: Sequence[str]) -> Tokenizer:
    """Learn a vocabulary (Sennrich et al. 2016, arXiv:1508.07909) whose first numbers are `reserved` and in no text.

    A text that looks like a special token is text: the tokenizer knows none, they are numbers.
    """
    tokenizer = _tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        min_frequency=2,
        max_token_length=config.max_piece_chars,
        special_tokens=list(reserved),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    return _tokenizer(models.BPE(vocab=learned["vocab"], merges=merges))


def token_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of many texts."""
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False) if texts else []
    return [encoding.ids for encoding in encodings]


def bytes_of_pieces(tokenizer: Tokenizer, *, num_reserved: int) -> list[bytes]:
    """The bytes that each token stands for, by its number; none for the reserved ones.

    The tokenizer writes a byte as one character: itself where that can be seen (Latin-1), else one from U+0100 on,
    in order (Radford et al. 2019, GPT-2).
    """
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unseen = [byte for byte in range(256) if byte not in seen]
    byte_of = {chr(byte): byte for byte in seen} | {chr(0x100 + i): byte for i, byte in enumerate(unseen)}
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    return [b"" if number < num_reserved else bytes(byte_of[letter] for letter in piece) for piece, number in pieces]


def _tokenizer(model: models.BPE) -> Tokenizer:
    """Byte-pair encoding of bytes (Radford et al. 2019, GPT-2); without added tokens nothing in a text is special."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
