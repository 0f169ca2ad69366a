"""An encoder-decoder over one vocabulary: a source, and the target so far, to the next token of the target.

Shapes: B batch, S source tokens, T target tokens, N chosen positions, D model dimension, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.frontends import TextFrontend
from noria.model.heads import TiedHead
from noria.model.transformer import EncoderDecoder

PADDING = 0


class Translator(nn.Module):
    """One table of token embeddings for source, target and output (Vaswani et al. 2017, 3.4).

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    forward_methods = ("next_tokens",)

    def __init__(self, config: ModelConfig, *, vocabulary_size: int, max_tokens: int) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.frontend = TextFrontend(config, vocabulary_size=vocabulary_size, max_tokens=max_tokens)
        self.transformer = EncoderDecoder(config)
        self.head = TiedHead(vocabulary_size)

    def forward(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Logits float32 (B, T, V) of the token behind each position of the target."""
        x_BTD = self._hidden(source_BS, target_BT)
        out: Tensor = self.head(x_BTD, self.frontend.tokens)
        return out

    def next_tokens(self, source_BS: Tensor, target_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions of the flattened target: vectors (N, D), weights (V, D), bias (V)."""
        x_ND = self._hidden(source_BS, target_BT).flatten(0, 1)[positions_N]
        return x_ND, self.frontend.tokens, self.head.bias

    def _hidden(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        source_BSD, target_BTD = (self.frontend(ids).to(self.compute_dtype) for ids in (source_BS, target_BT))
        out: Tensor = self.transformer(source_BSD, source_BS != PADDING, target_BTD)
        return out
