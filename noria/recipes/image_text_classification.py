"""How a classifier of images with texts is trained: as one of texts is, with a phase for the images before the last.

prepare   the wide branch is fitted to the texts; token embeddings start from co-occurrence
pretrain  the Transformer guesses hidden tokens
see       it learns the labels from the images alone
train     it learns them from both, and now and then from one of the two
blend     the two branches are weighed on the hold-out

Images take ten times the epochs that texts take, and learned together from the start the texts are known by heart
before the images are seen (Wang et al. 2020, arXiv:1905.12681). A model that always has both comes to lean on the one
that tells more; a row of which one is hidden teaches it to answer from the other (ModDrop, Neverova et al. 2015,
arXiv:1501.00102).

Shapes: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from noria.config import Config
from noria.data.affine import varied
from noria.data.image_encoder import ImageEncoder
from noria.data.image_text_encoder import ImageTextEncoder
from noria.data.ragged import pad
from noria.data.text_encoder import PAD, UNKNOWN
from noria.model.image_text_classifier import ImageTextBranch, ImageTextClassifier
from noria.recipes.classification import Labels, branches_recipe
from noria.recipes.image_classification import VariedImages
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.meter import flops_per_token
from noria.training.recipe import Fit, Phase

_BATCH_ROWS = 64


class LabelsOfEither(Labels):
    """Tell the class of a row from its changed text and its changed image, or from one of the two."""

    def __init__(self, rows: TrainingRows, *, config: Config, encoder: ImageTextEncoder) -> None:
        super().__init__(
            rows.view("token_ids", holdout=False),
            rows.classes(holdout=False),
            config=config,
            clause_ends=encoder.text.clause_ends,
            teacher_NC=rows.teacher,
            beside=encoder.image.num_patches,
        )
        token_ids = rows.view("token_ids", holdout=False)
        first_ids = (token_ids[row][0] for row in range(len(token_ids)))
        self._has_text = (token_ids.lengths > 1) | (np.fromiter(first_ids, np.int64) != UNKNOWN)
        self._pixels = rows.view("pixels", holdout=False)
        self._has_image = rows.tensor("has_image", holdout=False).values.astype(bool)
        self._encoder = encoder.image
        self._hidden_share = config.train.modality_dropout
        self._seeing = config.train.seeing

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        batch = super().batch(index)
        rng = np.random.default_rng((self._seed, index, 3))
        images = self._encoder.as_images(np.stack([self._pixels[row] for row in batch.rows]))
        has_image = self._has_image[batch.rows]
        token_ids = batch.inputs["token_ids"].numpy()
        has_text = self._has_text[batch.rows]
        drawn = rng.random(len(has_image))
        without_text = has_image & (drawn < self._hidden_share)
        without_image = has_text & (drawn >= 1 - self._hidden_share)
        nothing = np.full(token_ids.shape[1], PAD)
        nothing[0] = UNKNOWN
        inputs = {
            **batch.inputs,
            "token_ids": torch.from_numpy(np.where(without_text[:, None], nothing, token_ids)),
            "pixels": torch.from_numpy(varied(images, self._seeing, rng)),
            "has_image": torch.from_numpy(has_image & ~without_image),
        }
        return replace(batch, inputs=inputs)

    def said(self, model: nn.Module, batch: Batch) -> Tensor:
        """Float32 (N, C)."""
        logits_NC: Tensor = model(*(batch.inputs[name] for name in ("token_ids", "pixels", "has_image")))
        return logits_NC


class ImagesAlone(VariedImages):
    """Tell the class of a row from its changed image."""

    def __init__(self, rows: TrainingRows, *, config: Config, encoder: ImageEncoder) -> None:
        self._numbers = np.flatnonzero(rows.tensor("has_image", holdout=False).values)
        pixels = rows.view("pixels", holdout=False)
        super().__init__(
            replace(pixels, rows=pixels.rows[self._numbers]),
            rows.classes(holdout=False)[self._numbers],
            config=config,
            encoder=encoder,
        )

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        batch = super().batch(index)
        return replace(batch, rows=self._numbers[batch.rows])

    def said(self, model: nn.Module, batch: Batch) -> Tensor:
        """Float32 (N, C)."""
        return cast("ImageTextBranch", model).of_images(batch.inputs["pixels"])


def image_text_classification_recipe(
    config: Config, *, encoder: ImageTextEncoder, rows: TrainingRows, model: ImageTextClassifier
) -> tuple[Fit | Phase, ...]:
    """The training of `model`, which changes as it learns."""
    has_image = rows.tensor("has_image", holdout=False).values
    sees = config.train.images.epochs > 0 and has_image.any()
    return branches_recipe(
        config,
        rows=rows,
        model=model,
        labels=LabelsOfEither(rows, config=config, encoder=encoder),
        holdout=lambda: _holdout(model.deep, encoder, rows),
        before=[_seeing(config, encoder.image, rows, model.deep)] if sees else [],
    )


def _seeing(config: Config, encoder: ImageEncoder, rows: TrainingRows, deep: ImageTextBranch) -> Phase:
    images = config.train.images
    return Phase(
        "see",
        objective=ImagesAlone(rows, config=config, encoder=encoder),
        model=deep,
        matrices=deep.encoder,
        head=deep.head,
        epochs=images.epochs,
        lr=images.lr,
        muon_lr=images.muon_lr,
        schedule=images.schedule,
        flops_per_token=flops_per_token(config.model, length=float(encoder.num_patches)),
    )


@torch.inference_mode()
def _holdout(deep: ImageTextBranch, encoder: ImageTextEncoder, rows: TrainingRows) -> Tensor:
    """Logits float32 (N, C) of the hold-out as it is, in evaluation mode, on the CPU."""
    deep.eval()
    device = next(deep.parameters()).device
    token_ids, pixels, has_image = (rows.view(name, holdout=True) for name in ("token_ids", "pixels", "has_image"))
    parts = []
    for start in range(0, len(token_ids), _BATCH_ROWS):
        numbers = range(start, min(start + _BATCH_ROWS, len(token_ids)))
        images = encoder.image.as_images(np.stack([pixels[row] for row in numbers]))
        arrays = (pad([token_ids[row] for row in numbers]), images, np.concatenate([has_image[row] for row in numbers]))
        parts.append(deep(*(torch.from_numpy(array).to(device) for array in arrays)).float().cpu())
    return torch.cat(parts)
