"""A question and a context in one sequence, and where in the context the answer begins and ends.

Devlin et al. 2019 (arXiv:1810.04805), 4.2 and 4.3: an encoder over both, two linear maps, the first
position for "there is no answer".

Shapes: B batch, T positions of a window, D model dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.frontends import TextFrontend
from noria.model.heads import SpanHead
from noria.model.transformer import Encoder


class SpanReader(nn.Module):
    """Every position has a kind: kind 0 is padding, and an answer has its ends in kinds from `first_readable` on.

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    def __init__(
        self, config: ModelConfig, *, vocabulary_size: int, max_tokens: int, num_kinds: int, first_readable: int
    ) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.first_readable = first_readable
        self.frontend = TextFrontend(config, vocabulary_size=vocabulary_size, max_tokens=max_tokens)
        self.kinds = nn.Parameter(torch.randn(num_kinds, config.dim) * 0.5)
        self.encoder = Encoder(config)
        self.head = SpanHead(config.dim)

    def forward(self, token_ids: Tensor, kinds: Tensor) -> Tensor:
        """Logits float32 (B, T, 2) of start and end, 0 where none can be; `token_ids` and `kinds` are int64 (B, T)."""
        x_BTD = (self.frontend(token_ids) + F.embedding(kinds, self.kinds)).to(self.compute_dtype)
        x_BTD = self.encoder(x_BTD, kinds != 0)
        out: Tensor = self.head(x_BTD, kinds >= self.first_readable)
        return out
