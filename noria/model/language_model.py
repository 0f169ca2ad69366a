"""A decoder alone: which token comes next?

Shapes: B batch, W windows, T tokens, C context, P prompt, G draws, N chosen positions, K beams, D model dimension,
V vocabulary, H heads, E dimension of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.attention import KeysValues, Packing
from noria.model.frontends import TextFrontend
from noria.model.generation import PADDING, Sampling, Start, Vocabulary, generate
from noria.model.heads import TiedHead
from noria.model.transformer import Decoder

_BASE = 1_024  # float16 counts to 2,048
BOUNDARY = 1
"""The token that stands before every document, and so behind each."""


class LanguageModel(nn.Module):
    """Token embeddings, decoder, and the same embeddings as output (Press & Wolf 2017, arXiv:1608.05859).

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    forward_methods = ("next_tokens",)

    def __init__(self, config: ModelConfig, *, vocabulary_size: int, max_tokens: int) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.config = config
        self.vocabulary = Vocabulary(end=BOUNDARY)
        self.frontend = TextFrontend(config, vocabulary_size=vocabulary_size, max_tokens=max_tokens)
        self.decoder = Decoder(config, cross=False)
        self.head = TiedHead(vocabulary_size)

    def forward(
        self,
        windows: Tensor,
        prompt: Tensor,
        max_new_tokens: Tensor,
        temperature: Tensor,
        top_k: Tensor,
        top_p: Tensor,
        uniform: Tensor,
    ) -> dict[str, Tensor]:
        """What is said of documents, and how prompts go on.

        `log_probs` float32 (B, W, C) of each token but the first of windows int64 (B, W, C + 1), given those before
        it in its window; 0 where there is padding. `tokens` int64 (B, T): prompts int64 (B, P) without their first
        token, and at most `max_new_tokens` int64 (B) more, padding behind; see `Sampling` for the others.
        """
        log_probs_WBC = [self._score_real(window_BU) for window_BU in windows.unbind(1)]
        start = replace(self.start(prompt, max_new_tokens), sampling=Sampling(temperature, top_k, top_p, uniform))
        tokens_BT = generate(self, start, config=self.config.generation)
        return {"log_probs": torch.stack(log_probs_WBC, dim=1), "tokens": tokens_BT}

    def logits(self, token_ids_BT: Tensor) -> Tensor:
        """Logits float32 (B, T, V) of the token behind each position."""
        out: Tensor = self.head(self._hidden(token_ids_BT, None), self.frontend.tokens)
        return out

    def next_tokens(
        self, token_ids_BT: Tensor, positions_N: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions of the flattened batch: vectors (N, D), weights (V, D), bias (V)."""
        x_ND = self._hidden(token_ids_BT, packing).flatten(0, 1)[positions_N]
        return x_ND, self.frontend.tokens, self.head.bias

    def score(self, window_BU: Tensor) -> Tensor:
        """Log probability float32 (B, U - 1) of each token but the first; 0 for padding."""
        logits_BCV, asked_BC = self.logits(window_BU[:, :-1]), window_BU[:, 1:]
        said_BC = logits_BCV.gather(-1, asked_BC[..., None])[..., 0] - logits_BCV.logsumexp(-1)
        return said_BC.masked_fill(asked_BC == PADDING, 0.0)

    def _score_real(self, window_BU: Tensor) -> Tensor:
        """The same; rows of nothing but padding cost nothing, but for the first."""
        real_B = (window_BU != PADDING).any(dim=1)
        real_B[0] = True
        said_BC = torch.zeros(window_BU[:, 1:].shape, device=window_BU.device)
        said_BC[real_B] = self.score(window_BU[real_B])
        return said_BC

    def start(self, prompt_BP: Tensor, max_new_tokens_B: Tensor) -> Start:
        """The prompts, read at once."""
        x_BPD = self.frontend(prompt_BP).to(self.compute_dtype)
        read = self.decoder.whole(x_BPD)
        if self.frontend.bigrams is not None:
            read.append(_as_past(prompt_BP))
        limit_B = (prompt_BP != PADDING).sum(1) - 1 + max_new_tokens_B
        return Start(prompt_BP, limit_B, read=read)

    def empty_past(self, like: Tensor, *, num_beams: int) -> list[KeysValues]:
        """Keys and values (B * K, H, 0, E) of each layer; behind them, where there are bigrams, the tokens."""
        num_rows = len(like) * num_beams
        empty = torch.empty(0, dtype=self.compute_dtype, device=like.device)
        past = self.decoder.empty_past(num_rows, like=empty)
        if self.frontend.bigrams is not None:
            past.append(KeysValues(*[empty.float().new_empty(num_rows, 1, 0, 1)] * 2))
        return past

    def step(
        self, token_BK: Tensor, place_1: Tensor, past: Sequence[KeysValues], start: Start
    ) -> tuple[Tensor, list[KeysValues]]:
        """Logits float32 (B, K, V) of the token behind `token_BK`, which stands at `place_1`, and the past with it."""
        *layers, last = past
        if self.frontend.bigrams is None:
            x_BKD, now = self.decoder.step(self._stepped(token_BK, place_1, None), past, place_1)
            return self.head(x_BKD, self.frontend.tokens), now
        none_N111 = torch.zeros_like(token_BK, dtype=torch.float32).view(-1, 1, 1, 1)
        high_N, low_N = (torch.cat([none_N111, part], 2)[:, 0, -1, 0].long() for part in last)
        x_BKD = self._stepped(token_BK, place_1, (high_N * _BASE + low_N).view(token_BK.shape))
        x_BKD, now = self.decoder.step(x_BKD, layers, place_1)
        added = _as_past(token_BK.flatten()[:, None])
        tokens = KeysValues(*(torch.cat(pair, dim=2) for pair in zip(last, added, strict=True)))
        return self.head(x_BKD, self.frontend.tokens), [*now, tokens]

    def _stepped(self, token_BK: Tensor, place_1: Tensor, before_BK: Tensor | None) -> Tensor:
        return self.frontend.step(token_BK, place_1, before_BK).to(self.compute_dtype)

    def _hidden(self, token_ids_BT: Tensor, packing: Packing | None) -> Tensor:
        x_BTD = self.frontend(token_ids_BT, packing).to(self.compute_dtype)
        out: Tensor = self.decoder(x_BTD, packing=packing)
        return out


def _as_past(token_ids_P: Tensor) -> KeysValues:
    """Token numbers (…, P) as a layer of a past, of one head of dimension 1: (…, 1, P, 1), exact in half precision.

    Keys are their higher digit, values the lower one.
    """
    numbers = token_ids_P[..., None, :, None]
    return KeysValues((numbers // _BASE).float(), (numbers % _BASE).float())
