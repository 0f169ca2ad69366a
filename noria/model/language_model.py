"""A decoder alone: which token comes next?

Shapes: B batch, T tokens, N chosen positions, D model dimension, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.attention import Packing
from noria.model.frontends import TextFrontend
from noria.model.heads import TiedHead
from noria.model.transformer import Decoder


class LanguageModel(nn.Module):
    """Token embeddings, decoder, and the same embeddings as output (Press & Wolf 2017, arXiv:1608.05859).

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    forward_methods = ("next_tokens",)

    def __init__(self, config: ModelConfig, *, vocabulary_size: int, max_tokens: int) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.frontend = TextFrontend(config, vocabulary_size=vocabulary_size, max_tokens=max_tokens)
        self.decoder = Decoder(config, cross=False)
        self.head = TiedHead(vocabulary_size)

    def forward(self, token_ids_BT: Tensor) -> Tensor:
        """Logits float32 (B, T, V) of the token behind each position."""
        x_BTD = self._hidden(token_ids_BT, None)
        out: Tensor = self.head(x_BTD, self.frontend.tokens)
        return out

    def next_tokens(
        self, token_ids_BT: Tensor, positions_N: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions of the flattened batch: vectors (N, D), weights (V, D), bias (V)."""
        x_ND = self._hidden(token_ids_BT, packing).flatten(0, 1)[positions_N]
        return x_ND, self.frontend.tokens, self.head.bias

    def _hidden(self, token_ids_BT: Tensor, packing: Packing | None) -> Tensor:
        x_BTD = self.frontend(token_ids_BT, packing).to(self.compute_dtype)
        out: Tensor = self.decoder(x_BTD, packing=packing)
        return out
