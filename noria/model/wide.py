"""The wide branch: two linear models over one set of sparse features.

Shapes: B batch, G features of a row, C outputs, W features in the vocabulary (0 is padding).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WideBranch(nn.Module):
    """The mean of two linear models: over the values as they are, and over values times class ratio.

    The second sees value * ratio at unit length, where the ratio says how differently the classes use
    a feature: naive Bayes as features for a linear model (Wang & Manning 2012, "Baselines and
    Bigrams"). The two err on different rows.
    """

    ratio: Tensor

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__()
        self.register_buffer("ratio", torch.zeros(num_features + 1))
        self.plain_weight = nn.Parameter(torch.zeros(num_features + 1, num_outputs))
        self.rated_weight = nn.Parameter(torch.zeros(num_features + 1, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def forward(self, ids_BG: Tensor, values_BG: Tensor) -> Tensor:
        rated_BG = values_BG * self.ratio[ids_BG]
        rated_BG = rated_BG / rated_BG.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-6)
        plain_BC = values_BG[:, None, :] @ F.embedding(ids_BG, self.plain_weight)
        rated_BC = rated_BG[:, None, :] @ F.embedding(ids_BG, self.rated_weight)
        return 0.5 * (plain_BC + rated_BC).squeeze(1) + self.bias
