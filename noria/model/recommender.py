"""A decoder over a user's items: which comes next?

Shapes: B histories, T events, N chosen positions, D model dimension, V items of the catalogue.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.frontends import TextFrontend
from noria.model.heads import TiedHead
from noria.model.transformer import Decoder

PADDING = 0


class Recommender(nn.Module):
    """Item embeddings, decoder, and the same embeddings as output (SASRec: Kang & McAuley 2018, arXiv:1808.09781).

    Numbers below `num_special` stand in histories and are never an answer. `compute_dtype` is the
    precision of the activations; parameters stay float32, and so do logits.
    """

    forward_methods = ("next_items",)

    def __init__(self, config: ModelConfig, *, num_items: int, num_special: int) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.num_special = num_special
        self.frontend = TextFrontend(
            config, vocabulary_size=num_special + num_items, max_tokens=config.history.max_events
        )
        self.decoder = Decoder(config, cross=False)
        self.head = TiedHead(num_items)

    def forward(self, item_ids: Tensor) -> Tensor:
        """Logits float32 (B, V) of the item behind the last one of each history int64 (B, T), padded with 0 behind."""
        x_BTD = self._hidden(item_ids)
        last_B = (item_ids != PADDING).sum(1) - 1
        x_BD = x_BTD.gather(1, last_B[:, None, None].expand(-1, 1, x_BTD.shape[2])).squeeze(1)
        out: Tensor = self.head(x_BD, self._items())
        return out

    def next_items(self, item_ids_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions of the flattened batch: vectors (N, D), weights (V, D), bias (V)."""
        x_ND = self._hidden(item_ids_BT).flatten(0, 1)[positions_N]
        return x_ND, self._items(), self.head.bias

    def _items(self) -> Tensor:
        """(V, D)."""
        return self.frontend.tokens[self.num_special :]

    def _hidden(self, item_ids_BT: Tensor) -> Tensor:
        x_BTD = self.frontend(item_ids_BT).to(self.compute_dtype)
        out: Tensor = self.decoder(x_BTD)
        return out
