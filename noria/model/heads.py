"""How an answer leaves the Transformer.

Shapes: B batch, T length, D model dimension, C outputs, N chosen positions, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.model.layers import Linear

_HIDDEN = -30_000.0


class PooledHead(nn.Module):
    """One vector per sequence: class logits, or the values of a regression when trained with a squared loss.

    The mean over real positions, beside an average weighted by a learned query, through one linear map.
    """

    def __init__(self, dim: int, num_outputs: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))
        self.output = Linear(2 * dim, num_outputs, gain=0.3, bias=True)

    def forward(self, x_BTD: Tensor, real_BT: Tensor) -> Tensor:
        x_BTD = x_BTD.float()
        real_BT1 = real_BT[..., None].float()
        mean_BD = (x_BTD * real_BT1).sum(1) / real_BT1.sum(1).clamp_min(1.0)
        weight_BT = (x_BTD @ self.query).masked_fill(~real_BT, _HIDDEN).softmax(-1)
        focus_BD = (weight_BT[:, None, :] @ x_BTD).squeeze(1)
        out: Tensor = self.output(torch.cat([mean_BD, focus_BD], dim=-1))
        return out


class SpanHead(nn.Module):
    """Where an answer begins and where it ends: a logit of each for every position, 0 where it can't be."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output = Linear(dim, 2, gain=0.3, bias=True)

    def forward(self, x_BTD: Tensor, readable_BT: Tensor) -> Tensor:
        logits_BT2: Tensor = self.output(x_BTD).float()
        return torch.where(readable_BT[..., None], logits_BT2, 0.0)


class MaskedTokenHead(nn.Module):
    """Which token was here? x W^T + b, of which W are the token embeddings (Press & Wolf 2017, arXiv:1608.05859).

    Returns x; the product is the loss's to make, chunk by chunk.
    """

    def __init__(self, dim: int, vocabulary_size: int) -> None:
        super().__init__()
        self.transform = nn.Parameter(torch.eye(dim))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, x_ND: Tensor) -> Tensor:
        return F.linear(x_ND, self.transform.to(x_ND.dtype))


class TiedHead(nn.Module):
    """Logits of tokens: x W^T + b, of which W are the token embeddings (Press & Wolf 2017, arXiv:1608.05859)."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, x_D: Tensor, tokens_VD: Tensor) -> Tensor:
        return F.linear(x_D, tokens_VD.to(x_D.dtype)).float() + self.bias
