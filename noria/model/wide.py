"""The wide branch: a linear model over sparse features.

Shapes: B batch, G features of a row, C outputs, W features in the vocabulary (0 is padding).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WideBranch(nn.Module):
    """Sum of the weights of a row's features, each times its value, plus a bias."""

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_features + 1, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def forward(self, ids_BG: Tensor, values_BG: Tensor) -> Tensor:
        weight_BGC = F.embedding(ids_BG, self.weight)
        return (values_BG[:, None, :] @ weight_BGC).squeeze(1) + self.bias
