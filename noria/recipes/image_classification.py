"""How an image classifier is trained: every image changed a little, at random, each time that it is seen.

train      the Transformer learns from labels; the epoch with the lowest hold-out loss is kept
calibrate  a temperature makes its probabilities as sure as they are right, on the hold-out

Shapes: N rows, C classes, K channels, S pixels each way.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noria.config import Config
from noria.data.affine import varied
from noria.data.batching import BatchPlan
from noria.data.image_encoder import ImageEncoder
from noria.data.ragged import Rows
from noria.model.image_classifier import ImageClassifier
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.losses import Said, build_loss, cross_entropy, distillation
from noria.training.meter import flops_per_token
from noria.training.recipe import Fit, Phase

_BATCH_ROWS = 64
_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 81))


class VariedImages:
    """Tell the class of an image that was moved, turned, scaled, sheared and partly erased."""

    def __init__(
        self,
        pixels: Rows,
        classes: NDArray[np.int64],
        *,
        config: Config,
        encoder: ImageEncoder,
        teacher_NC: NDArray[np.float32] | None = None,
    ) -> None:
        lengths = np.full(len(pixels), encoder.num_patches, dtype=np.int64)
        self._plan = BatchPlan(lengths, batch_tokens=config.train.batch_tokens, seed=config.seed)
        self._pixels = pixels
        self._classes = classes
        self._encoder = encoder
        self._teacher_NC = teacher_NC
        self._train = config.train
        self._loss = build_loss(config.train)
        self._seed = config.seed

    def __len__(self) -> int:
        return len(self._plan)

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        rows = self._plan.batch(index).rows
        images = self._encoder.as_images(np.stack([self._pixels[row] for row in rows]))
        changed = varied(images, self._train.seeing, np.random.default_rng((self._seed, index, 2)))
        inputs = {"pixels": torch.from_numpy(changed)}
        if self._teacher_NC is not None:
            inputs["teacher"] = torch.from_numpy(self._teacher_NC[rows])
        return Batch(
            inputs=inputs,
            targets=torch.from_numpy(self._classes[rows]),
            positions=None,
            width=self._encoder.num_patches,
            rows=rows,
            lengths=np.full(len(rows), self._encoder.num_patches, dtype=np.int64),
        )

    def largest(self) -> Batch:
        """The batch with the most cells."""
        return self.batch(self._plan.largest())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the rows."""
        return self.loss_of(self.said(model, batch), batch)

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        assert isinstance(said, Tensor)
        loss = self._loss(said, batch.targets)
        if self._teacher_NC is None:
            return loss
        distill = self._train.distill
        taught = distillation(said, batch.inputs["teacher"], temperature=distill.temperature)
        return (1 - distill.weight) * loss + distill.weight * taught

    def said(self, model: nn.Module, batch: Batch) -> Tensor:
        """Float32 (N, C)."""
        logits_NC: Tensor = model(batch.inputs["pixels"])
        return logits_NC


def image_classification_recipe(
    config: Config, *, encoder: ImageEncoder, rows: TrainingRows, model: ImageClassifier
) -> tuple[Fit | Phase, ...]:
    """The training of `model`, which changes as it learns."""
    train = config.train
    loss = build_loss(train)

    def judge() -> Mapping[str, float]:
        logits_NC, classes_N = _holdout(model, encoder, rows)
        return {
            "holdout_loss": float(loss(logits_NC, classes_N)) / len(classes_N),
            "holdout_accuracy": _accuracy(logits_NC, classes_N),
        }

    objective = VariedImages(
        rows.view("pixels", holdout=False),
        rows.classes(holdout=False),
        config=config,
        encoder=encoder,
        teacher_NC=rows.teacher,
    )
    phase = Phase(
        "train",
        objective=objective,
        model=model,
        matrices=model.encoder,
        head=model.head,
        epochs=train.epochs,
        lr=train.lr,
        muon_lr=train.muon_lr,
        schedule=train.schedule,
        flops_per_token=flops_per_token(config.model, length=float(encoder.num_patches)),
        judge=judge,
    )
    return (phase, Fit("calibrate", lambda: _calibrate(model, encoder, rows)))


def _calibrate(model: ImageClassifier, encoder: ImageEncoder, rows: TrainingRows) -> Mapping[str, float]:
    """The temperature with the lowest hold-out loss (Guo et al. 2017, arXiv:1706.04599)."""
    model.compute_dtype = torch.float32
    model.temperature.fill_(1.0)
    logits_NC, classes_N = _holdout(model, encoder, rows)
    losses = [float(cross_entropy(logits_NC / float(t), classes_N)) for t in _TEMPERATURES]
    best = int(np.argmin(losses))
    model.temperature.fill_(float(_TEMPERATURES[best]))
    return {"final_loss": losses[best] / len(classes_N), "final_accuracy": _accuracy(logits_NC, classes_N)}


@torch.inference_mode()
def _holdout(model: ImageClassifier, encoder: ImageEncoder, rows: TrainingRows) -> tuple[Tensor, Tensor]:
    """Logits float32 (N, C) of the hold-out as it is, in evaluation mode, and its classes."""
    model.eval()
    device = next(model.parameters()).device
    pixels = rows.view("pixels", holdout=True)
    parts = []
    for start in range(0, len(pixels), _BATCH_ROWS):
        numbers = range(start, min(start + _BATCH_ROWS, len(pixels)))
        images = encoder.as_images(np.stack([pixels[row] for row in numbers]))
        parts.append(model(torch.from_numpy(images).to(device)).float().cpu())
    return torch.cat(parts), torch.from_numpy(rows.classes(holdout=True))


def _accuracy(logits_NC: Tensor, classes_N: Tensor) -> float:
    return float((logits_NC.argmax(-1) == classes_N).double().mean())
