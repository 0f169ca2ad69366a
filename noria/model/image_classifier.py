"""A Transformer encoder over the patches of an image.

Shapes: B batch, K channels, H height, W width, T patches, D model dimension, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noria.config import ModelConfig
from noria.model.frontends import PatchFrontend
from noria.model.heads import PooledHead
from noria.model.transformer import Encoder


class ImageClassifier(nn.Module):
    """Frontend, encoder and head.

    `compute_dtype` is the precision of the activations; parameters stay float32, and so do logits.
    """

    temperature: Tensor

    def __init__(self, config: ModelConfig, *, num_classes: int, mean: float, std: float) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        self.frontend = PatchFrontend(config, mean=mean, std=std)
        self.encoder = Encoder(config)
        self.head = PooledHead(config.dim, num_classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits float32 (B, C) of uint8 pixels (B, K, H, W); `temperature`, set after training, divides them."""
        x_BTD = self.frontend(pixels).to(self.compute_dtype)
        real_BT = torch.ones(x_BTD.shape[:2], dtype=torch.bool, device=x_BTD.device)
        out: Tensor = self.head(self.encoder(x_BTD, real_BT), real_BT) / self.temperature
        return out
