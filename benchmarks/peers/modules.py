"""The models of the tutorial loops, built from PyTorch's own layers at their defaults (post-norm).

Shapes: B rows, T source positions, U target positions, D dimension, C classes, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.peers.optimization import activation
from benchmarks.peers.settings import Settings
from benchmarks.workloads.format import Workload


@dataclass(frozen=True)
class Sizes:
    """Of a Transformer; `layers` are of each side."""

    layers: int
    dim: int
    heads: int
    feed_forward_dim: int

    def given(self, settings: Settings) -> Sizes:
        """With what the settings name."""
        return Sizes(**{name: getattr(settings, name) or size for name, size in vars(self).items()})


CLASSIFIER = Sizes(layers=4, dim=128, heads=2, feed_forward_dim=512)
TRANSLATOR = Sizes(layers=3, dim=256, heads=4, feed_forward_dim=1024)
DECODER = Sizes(layers=6, dim=256, heads=4, feed_forward_dim=1024)


def context(settings: Settings) -> int:
    """Tokens of a block in language modelling."""
    return settings.context or 512


def vocabulary_size(workload: Workload, settings: Settings) -> int:
    """Rows of the embedding; ids are below the workload's number, which may be smaller."""
    return max(settings.vocabulary_size, workload.description.vocabulary_size)


class TutorialClassifier(nn.Module):
    """`nn.TransformerEncoder` with learned positions; the mean over real positions is classified."""

    def __init__(self, *, vocabulary_size: int, num_classes: int, width: int, pad: int, settings: Settings) -> None:
        super().__init__()
        sizes = CLASSIFIER.given(settings)
        dim = sizes.dim
        self.tokens = nn.Embedding(vocabulary_size, dim, padding_idx=pad)
        self.positions = nn.Embedding(width, dim)
        layer = nn.TransformerEncoderLayer(
            dim,
            sizes.heads,
            sizes.feed_forward_dim,
            dropout=settings.dropout,
            activation=activation(settings.activation),
            batch_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits float (B, C); both arguments are int64 (B, T), and a mask of 1 means a real token."""
        real_BT = attention_mask.bool()
        x_BTD = self.tokens(input_ids) + self.positions.weight[: input_ids.shape[1]]
        x_BTD = self.encoder(x_BTD, src_key_padding_mask=~real_BT)
        mean_BD = (x_BTD * real_BT[..., None]).sum(1) / real_BT.sum(1, keepdim=True)
        logits_BC: Tensor = self.head(mean_BD)
        return logits_BC


class TutorialTranslator(nn.Module):
    """`nn.Transformer` with sinusoidal positions, masks, and one embedding for source, target and output."""

    def __init__(self, *, vocabulary_size: int, width: int, pad: int, settings: Settings) -> None:
        super().__init__()
        sizes = TRANSLATOR.given(settings)
        dim = sizes.dim
        self.pad = pad
        self.tokens = nn.Embedding(vocabulary_size, dim, padding_idx=pad)
        nn.init.normal_(self.tokens.weight, std=dim**-0.5)
        self.transformer = nn.Transformer(
            dim,
            sizes.heads,
            sizes.layers,
            sizes.layers,
            sizes.feed_forward_dim,
            dropout=settings.dropout,
            activation=activation(settings.activation),
            batch_first=True,
        )
        self.register_buffer("positions", sinusoids(width, dim), persistent=False)

    def forward(self, source_BT: Tensor, target_BU: Tensor) -> Tensor:
        """Logits float (B, U, V) of the token after each of `target_BU`; both arguments are padded int64."""
        source_pad_BT = source_BT == self.pad

        future_UU = torch.ones(target_BU.shape[1], target_BU.shape[1], dtype=torch.bool, device=target_BU.device).triu(
            1
        )
        out_BUD = self.transformer(
            self._embed(source_BT),
            self._embed(target_BU),
            tgt_mask=future_UU,
            src_key_padding_mask=source_pad_BT,
            tgt_key_padding_mask=target_BU == self.pad,
            memory_key_padding_mask=source_pad_BT,
            tgt_is_causal=True,
        )
        return nn.functional.linear(out_BUD, self.tokens.weight)

    def _embed(self, ids_BT: Tensor) -> Tensor:
        positions_TD: Tensor = self.get_buffer("positions")[: ids_BT.shape[1]]
        embedded_BTD: Tensor = self.tokens(ids_BT) * math.sqrt(self.tokens.embedding_dim) + positions_TD
        return embedded_BTD


def sinusoids(length: int, dim: int) -> Tensor:
    """Positions (length, dim) as in Vaswani et al. 2017 (arXiv:1706.03762), section 3.5."""
    angle = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, dim, 2) / dim)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
