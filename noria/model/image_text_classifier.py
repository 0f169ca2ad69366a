"""A Transformer encoder over the patches of an image and the tokens of a text beside a linear model over n-grams.

Patches and tokens are one sequence, so every patch sees every token from the first layer on (ViLT, arXiv:2102.03334).

Shapes: B batch, T tokens, P patches, K channels, H height, W width, G n-grams, D model dimension, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noria.config import ModelConfig
from noria.model.frontends import PatchFrontend
from noria.model.text_classifier import PADDING, DeepBranch, TextClassifier
from noria.model.wide import WideBranch


class ImageTextBranch(DeepBranch):
    """The text's branch with a second frontend; a row whose image is missing has no patches to attend to."""

    forward_methods = (*DeepBranch.forward_methods, "of_images")

    def __init__(
        self,
        config: ModelConfig,
        *,
        vocabulary_size: int,
        max_tokens: int,
        num_classes: int,
        mean: float,
        std: float,
    ) -> None:
        super().__init__(config, vocabulary_size=vocabulary_size, max_tokens=max_tokens, num_classes=num_classes)
        self.image_frontend = PatchFrontend(config, mean=mean, std=std)

    def forward(
        self, token_ids_BT: Tensor, pixels_BKHW: Tensor | None = None, has_image_B: Tensor | None = None
    ) -> Tensor:
        """Logits (B, C); without images, of the text alone."""
        if pixels_BKHW is None or has_image_B is None:
            return super().forward(token_ids_BT)
        patches_BPD = self.image_frontend(pixels_BKHW)
        seen_BP = has_image_B[:, None].expand(-1, patches_BPD.shape[1])
        real_BS = torch.cat([seen_BP, token_ids_BT != PADDING], dim=1)
        x_BSD = torch.cat([patches_BPD, self.frontend(token_ids_BT)], dim=1).to(self.compute_dtype)
        out: Tensor = self.head(self.encoder(x_BSD, real_BS), real_BS)
        return out

    def of_images(self, pixels_BKHW: Tensor) -> Tensor:
        """Logits (B, C) of the images alone."""
        x_BPD = self.image_frontend(pixels_BKHW).to(self.compute_dtype)
        real_BP = torch.ones(x_BPD.shape[:2], dtype=torch.bool, device=x_BPD.device)
        out: Tensor = self.head(self.encoder(x_BPD, real_BP), real_BP)
        return out


class ImageTextClassifier(TextClassifier):
    """logits = wide_scale * wide of the text + deep_scale * deep of both."""

    deep: ImageTextBranch

    def __init__(self, *, wide: WideBranch | None, deep: ImageTextBranch) -> None:
        super().__init__(wide=wide, deep=deep)

    def forward(
        self,
        token_ids: Tensor,
        ngram_ids: Tensor | None = None,
        ngram_values: Tensor | None = None,
        pixels: Tensor | None = None,
        has_image: Tensor | None = None,
    ) -> Tensor:
        """Logits float32 (B, C).

        Parameters
        ----------
        token_ids:
            int64 (B, T), 0 is padding; a missing text is one unknown token.
        ngram_ids, ngram_values:
            int64 and float32 (B, G), 0 is padding; needed when there is a wide branch.
        pixels, has_image:
            uint8 (B, K, H, W) and bool (B); pixels of a missing image are not looked at.
        """
        logits_BC: Tensor = self.deep_scale * self.deep(token_ids, pixels, has_image)
        if self.wide is not None:
            logits_BC = logits_BC + self.wide_scale * self.wide(ngram_ids, ngram_values)
        return logits_BC
