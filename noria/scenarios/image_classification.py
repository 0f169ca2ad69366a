"""Image classification: one image, one label. The default is set for small images, such as digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from noria.config import Config
from noria.data import images
from noria.data.media import file_as_base64, from_base64, to_base64
from noria.scenarios.base import Encoder, Row, Scenario, Tensors, relabelled

if TYPE_CHECKING:
    import torch

    from noria.data.image_encoder import ImageEncoder
    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

SCHEMA = pa.schema([pa.field("image", pa.binary()), pa.field("label", pa.string())])

DEFAULTS: Mapping[str, object] = {
    "source": {"max_row_bytes": 20_000_000},
    "preprocess": {"batch_rows": 500},
    "clean": {"near_duplicate_similarity": 1.0},
    "split": {"near_duplicate_similarity": 1.0},
    "model": {
        "layers": 4,
        "dim": 96,
        "heads": 3,
        "feed_forward_dim": 288,
    },
    "train": {
        "optimizer": "muon",
        "lr": 2e-3,
        "muon_lr": 0.02,
        "schedule": "cosine",
        "epochs": 30.0,
        "batch_tokens": 2_304,
        "label_smoothing": 0.05,
    },
    "serve": {"max_body_bytes": 4_000_000},
}
"""A digest of pixels tells duplicates, so they are equal or not; a batch is 64 images of 36 patches."""

EXAMPLE = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAA3UlEQVR4nN3QMWvCYBDG8RuCQVF3v4NjpxZcioJL93bQTQQ/gFsH"
    "IaVD14C4dhG0tHvnQHdHaSC1UxSEisYg/7cOuoS+9wV603E/Hng4kf861625MSa8+wNXwygyAPBVz4jrByvgjIf7DPZOV0Pod9bE"
    "FRERcc4YpG64efsJPtNtLZX3OJMse175tOVW7G6Uvs4DjB0FL2B/qdjtlqSrWHsJj4r1f40Z2Sn/vDPJS8Fqrgf7qT2X+wA6dqvO"
    "IVG6lHzgyW6Nb2BSsfd8hcVAeVoTltqzpTCLekUNlTkCi0hxKJos5QAAAAAASUVORK5CYII="
)
"""A handwritten seven, 28 x 28, PNG in base64."""


class Request(BaseModel):
    """One image to classify: the bytes of its file (PNG, JPEG, BMP, GIF or WebP) in base64."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(
        min_length=1,
        max_length=images.MOST_BASE64,
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/*"},
    )

    @field_validator("image")
    @classmethod
    def _can_be_seen(cls, value: str) -> str:
        return images.seeable(value)


class Response(BaseModel):
    """The most likely label, and the probability of each."""

    label: str
    scores: dict[str, float]


def _image_encoder(encoder: Encoder) -> ImageEncoder:
    from noria.data.image_encoder import ImageEncoder

    assert isinstance(encoder, ImageEncoder)
    return encoder


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> ImageEncoder:
    from noria.data.image_encoder import fit_image_encoder

    return fit_image_encoder(rows, image=config.model.image)


def _load_encoder(directory: Path) -> ImageEncoder:
    from noria.data.image_encoder import load_image_encoder

    return load_image_encoder(directory)


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.model.image_classifier import ImageClassifier

    fitted = _image_encoder(encoder)
    return ImageClassifier(config.model, num_classes=len(fitted.labels), mean=fitted.mean, std=fitted.std)


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.model.image_classifier import ImageClassifier
    from noria.recipes.image_classification import image_classification_recipe

    assert isinstance(model, ImageClassifier)
    return image_classification_recipe(config, encoder=_image_encoder(encoder), rows=rows, model=model)


def _labels(encoder: Encoder) -> Sequence[str]:
    return _image_encoder(encoder).labels


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.judged import judge_classes

    return judge_classes(rows, outputs, target="label", labels=_labels(encoder), slices=images.slices)


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    from noria.evaluation.inference import class_answers

    return class_answers(outputs, labels=_labels(encoder))


def _request_of(row: Row) -> Mapping[str, object]:
    return {"image": to_base64(row["image"])}


def _row_of(request: BaseModel) -> Row:
    assert isinstance(request, Request)
    return {"image": from_base64(request.image)}


def _request_of_text(text: str) -> Mapping[str, object]:
    """`noria predict FILE.png`: the file's bytes.

    Raises
    ------
    ValueError
        When it can't be read.
    """
    from noria.data.pixels import MAX_BYTES

    return {"image": file_as_base64(text.strip(), what="image", most=MAX_BYTES)}


def _report(rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: Encoder, directory: Path) -> None:
    """`misread.png`: the images that were misread, the surest first."""
    from noria.evaluation.misread import draw_misread

    del outputs
    payloads = {str(row["id"]): row["image"] for row in rows}
    draw_misread(judged, [payloads[name] for name in judged.ids], directory / "misread.png")


def _sample(directory: Path) -> None:
    """5,000 handwritten digits of MNIST."""
    from noria.data.mnist import write_digits

    write_digits(directory)


SCENARIO = Scenario(
    name="image-classification",
    schema=SCHEMA,
    target="label",
    defaults=DEFAULTS,
    measure=images.measure,
    repair=images.repair,
    duplicate_key=images.duplicate_key,
    augment=images.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=images.slices,
    request=Request,
    response=Response,
    example={"image": EXAMPLE},
    sample=_sample,
    labels=_labels,
    request_of=_request_of,
    row_of=_row_of,
    request_of_text=_request_of_text,
    report=_report,
    correct=relabelled("label"),
)
