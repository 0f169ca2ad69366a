"""An encoder-decoder over one vocabulary: a source, and the target so far, to the next token of the target.

Shapes: B batch, S source tokens, T target tokens, N chosen positions, K beams, D model dimension, V vocabulary,
H heads, E dimension of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.attention import KeysValues
from noria.model.frontends import TextFrontend
from noria.model.generation import PADDING, Start, Vocabulary, generate
from noria.model.heads import TiedHead
from noria.model.transformer import EncoderDecoder

BEGIN, END = 1, 2
_SPARE_TOKENS = 10


class Translator(nn.Module):
    """One table of token embeddings for source, target and output (Vaswani et al. 2017, 3.4).

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    forward_methods = ("next_tokens",)

    def __init__(self, config: ModelConfig, *, vocabulary_size: int, max_tokens: int) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.config = config
        self.max_tokens = max_tokens
        self.vocabulary = Vocabulary(end=END, never=(BEGIN,))
        self.frontend = TextFrontend(config, vocabulary_size=vocabulary_size, max_tokens=max_tokens)
        self.transformer = EncoderDecoder(config)
        self.head = TiedHead(vocabulary_size)

    def forward(self, source: Tensor, max_new_tokens: Tensor | None = None) -> dict[str, Tensor]:
        """The translation of each source int64 (B, S): `tokens` int64 (B, T), padding behind the end.

        Where it is asked for the beginning alone, no more than `max_new_tokens` int64 (B) of them.
        """
        return {"tokens": generate(self, self.start(source, max_new_tokens), config=self.config.generation)}

    def logits(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Logits float32 (B, T, V) of the token behind each position of the target."""
        out: Tensor = self.head(self._hidden(source_BS, target_BT), self.frontend.tokens)
        return out

    def next_tokens(self, source_BS: Tensor, target_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions of the flattened target: vectors (N, D), weights (V, D), bias (V)."""
        x_ND = self._hidden(source_BS, target_BT).flatten(0, 1)[positions_N]
        return x_ND, self.frontend.tokens, self.head.bias

    def start(self, source_BS: Tensor, max_new_tokens_B: Tensor | None = None) -> Start:
        """The source as the decoder reads it, and how long a translation may get."""
        real_BS = source_BS != PADDING
        source_BSD = self.frontend(source_BS).to(self.compute_dtype)
        memory = self.transformer.decoder.remember(self.transformer.encoder(source_BSD, real_BS))
        generation = self.config.generation
        most = min(generation.max_tokens, self.max_tokens)
        limit_B = ((real_BS.sum(1) * generation.max_source_ratio).long() + _SPARE_TOKENS).clamp(max=most)
        if max_new_tokens_B is not None:
            limit_B = torch.minimum(limit_B, max_new_tokens_B)
        prefix_B1 = torch.full_like(source_BS[:, :1], BEGIN)
        return Start(prefix_B1, limit_B, memory, real_BS)

    def empty_past(self, like: Tensor, *, num_beams: int) -> list[KeysValues]:
        """Keys and values (B * K, H, 0, E) of each layer."""
        empty = torch.empty(0, dtype=self.compute_dtype, device=like.device)
        return self.transformer.decoder.empty_past(len(like) * num_beams, like=empty)

    def step(
        self, token_BK: Tensor, place_1: Tensor, past: Sequence[KeysValues], start: Start
    ) -> tuple[Tensor, list[KeysValues]]:
        """Logits float32 (B, K, V) of the token behind `token_BK`, which stands at `place_1`, and the past with it."""
        x_BKD = self.frontend.step(token_BK, place_1).to(self.compute_dtype)
        decoder = self.transformer.decoder
        x_BKD, past = decoder.step(x_BKD, past, place_1, start.memory, start.memory_real)
        return self.head(x_BKD, self.frontend.tokens), list(past)

    def _hidden(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        source_BSD, target_BTD = (self.frontend(ids).to(self.compute_dtype) for ids in (source_BS, target_BT))
        out: Tensor = self.transformer(source_BSD, source_BS != PADDING, target_BTD)
        return out
