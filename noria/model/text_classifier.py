"""A Transformer encoder over tokens beside a linear model over n-grams (wide and deep, arXiv:1606.07792).

Shapes: B batch, T tokens, G n-grams, D model dimension, C classes, N chosen positions, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.frontends import TextFrontend
from noria.model.heads import MaskedTokenHead, PooledHead
from noria.model.transformer import Encoder
from noria.model.wide import WideBranch

PADDING = 0


class DeepBranch(nn.Module):
    """Frontend, encoder and heads.

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    forward_methods: tuple[str, ...] = ("masked_tokens",)

    def __init__(self, config: ModelConfig, *, vocabulary_size: int, max_tokens: int, num_classes: int) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.frontend = TextFrontend(config, vocabulary_size=vocabulary_size, max_tokens=max_tokens)
        self.encoder = Encoder(config)
        self.head = PooledHead(config.dim, num_classes)
        self.masked_token_head = MaskedTokenHead(config.dim, vocabulary_size)

    def forward(self, token_ids_BT: Tensor) -> Tensor:
        """Logits (B, C)."""
        out: Tensor = self.head(self._hidden(token_ids_BT), token_ids_BT != PADDING)
        return out

    def masked_tokens(self, token_ids_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What stands at `positions_N` of the flattened batch: logits are x W^T + b of x (N, D), W (V, D), b (V)."""
        x_ND = self._hidden(token_ids_BT).flatten(0, 1)[positions_N]
        return self.masked_token_head(x_ND), self.frontend.tokens, self.masked_token_head.bias

    def _hidden(self, token_ids_BT: Tensor) -> Tensor:
        x_BTD = self.frontend(token_ids_BT).to(self.compute_dtype)
        out: Tensor = self.encoder(x_BTD, token_ids_BT != PADDING)
        return out


class TextClassifier(nn.Module):
    """logits = wide_scale * wide + deep_scale * deep; either branch may be absent.

    The scales are set after training from rows that neither branch has seen (noria/recipes/blend.py).
    """

    wide_scale: Tensor
    deep_scale: Tensor

    def __init__(self, *, wide: WideBranch | None, deep: DeepBranch | None) -> None:
        super().__init__()
        assert wide is not None or deep is not None
        self.wide = wide
        self.deep = deep
        self.register_buffer("wide_scale", torch.ones(()))
        self.register_buffer("deep_scale", torch.ones(()))

    def forward(self, token_ids: Tensor, ngram_ids: Tensor | None = None, ngram_values: Tensor | None = None) -> Tensor:
        """Logits float32 (B, C).

        Parameters
        ----------
        token_ids:
            int64 (B, T), 0 is padding.
        ngram_ids, ngram_values:
            int64 and float32 (B, G), 0 is padding; needed when there is a wide branch.
        """
        logits_BC = torch.zeros(())
        if self.wide is not None:
            logits_BC = logits_BC + self.wide_scale * self.wide(ngram_ids, ngram_values)
        if self.deep is not None:
            logits_BC = logits_BC + self.deep_scale * self.deep(token_ids)
        return logits_BC
