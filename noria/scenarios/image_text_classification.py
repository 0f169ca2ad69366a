"""Image-text classification: one image, one text, either of which may be missing, and one label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from noria.config import Config
from noria.data import image_text, images
from noria.data.media import OPTIONAL, from_base64, to_base64
from noria.errors import ConfigError
from noria.scenarios.base import Encoder, Row, Scenario, Tensors, relabelled

if TYPE_CHECKING:
    import torch

    from noria.data.image_text_encoder import ImageTextEncoder
    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

SCHEMA = pa.schema(
    [
        pa.field("image", pa.binary(), metadata=OPTIONAL),
        pa.field("text", pa.string(), metadata=OPTIONAL),
        pa.field("label", pa.string()),
    ]
)

DEFAULTS: Mapping[str, object] = {
    "source": {"max_row_bytes": 20_000_000},
    "preprocess": {"batch_rows": 500},
    "clean": {"near_duplicate_similarity": 1.0, "min_chars": 1, "min_han_share": 0.0},
    "tokenizer": {"vocabulary_size": 3_000, "max_piece_chars": 4, "max_tokens": 128},
    "model": {
        "layers": 3,
        "dim": 128,
        "heads": 2,
        "feed_forward_dim": 384,
        "positions": "learned",
        "bigram_buckets": 32_768,
        "wide": {"max_ngram": 5, "min_rows": 2, "inverse_regularization": 10.0},
        "deep_weight": 1.0,
    },
    "train": {
        "optimizer": "muon",
        "lr": 7e-4,
        "muon_lr": 5e-3,
        "schedule": "linear",
        "epochs": 6.0,
        "batch_tokens": 2_304,
        "token_mask": 0.1,
        "clause_shuffle": 0.5,
        "label_smoothing": 0.1,
        "modality_dropout": 0.25,
        "average": {"kind": "ema", "decay": 0.99},
        "pretrain": {
            "epochs": 5.0,
            "lr": 3e-3,
            "muon_lr": 0.02,
            "schedule": "cosine",
            "batch_tokens": 4_096,
            "mask_share": 0.2,
            "cooccurrence_window": 4,
        },
        "images": {"epochs": 60.0, "lr": 2e-3, "muon_lr": 0.02, "schedule": "cosine"},
    },
    "serve": {"max_body_bytes": 4_000_000},
}
"""Texts are learned as in text classification, images as in image classification; 2,304 are 64 images of 36 patches."""


class Request(BaseModel):
    """An image (the bytes of its file in base64), a text, or both."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(default="", max_length=20_000)
    image: str = Field(
        default="",
        max_length=images.MOST_BASE64,
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/*"},
    )

    @field_validator("image")
    @classmethod
    def _can_be_seen(cls, value: str) -> str:
        return images.seeable(value) if value else value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.text.strip() and not self.image:
            raise ValueError("give an image, a text, or both")
        return self


class Response(BaseModel):
    """The most likely label, and the probability of each."""

    label: str
    scores: dict[str, float]


def _encoder(encoder: Encoder) -> ImageTextEncoder:
    from noria.data.image_text_encoder import ImageTextEncoder

    assert isinstance(encoder, ImageTextEncoder)
    return encoder


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> ImageTextEncoder:
    from noria.data.image_text_encoder import fit_image_text_encoder

    return fit_image_text_encoder(rows, config)


def _load_encoder(directory: Path) -> ImageTextEncoder:
    from noria.data.image_text_encoder import load_image_text_encoder

    return load_image_text_encoder(directory)


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.model.image_text_classifier import ImageTextBranch, ImageTextClassifier
    from noria.model.wide import WideBranch

    if not config.model.deep_weight:
        raise ConfigError(
            "without the Transformer nothing looks at the images",
            where="params.yaml: model.deep_weight: 0",
            expected="a number above 0",
        )
    fitted = _encoder(encoder)
    num_classes = len(fitted.labels)
    deep = ImageTextBranch(
        config.model,
        vocabulary_size=fitted.text.vocabulary_size,
        max_tokens=fitted.text.max_tokens,
        num_classes=num_classes,
        mean=fitted.image.mean,
        std=fitted.image.std,
    )
    wide = WideBranch(fitted.text.num_ngrams, num_classes) if config.model.wide.enabled else None
    return ImageTextClassifier(wide=wide, deep=deep)


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.model.image_text_classifier import ImageTextClassifier
    from noria.recipes.image_text_classification import image_text_classification_recipe

    assert isinstance(model, ImageTextClassifier)
    return image_text_classification_recipe(config, encoder=_encoder(encoder), rows=rows, model=model)


def _labels(encoder: Encoder) -> Sequence[str]:
    return _encoder(encoder).labels


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.judged import judge_classes

    return judge_classes(rows, outputs, target="label", labels=_labels(encoder), slices=image_text.slices)


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    from noria.evaluation.inference import class_answers

    return class_answers(outputs, labels=_labels(encoder))


def _request_of(row: Row) -> Mapping[str, object]:
    return {"text": row["text"] or "", "image": to_base64(row["image"] or b"")}


def _row_of(request: BaseModel) -> Row:
    assert isinstance(request, Request)
    return {"text": request.text, "image": from_base64(request.image)}


def _report(rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: Encoder, directory: Path) -> None:
    """`misread.png`, `misread.md`: the images and the texts of rows that were misread, the surest first."""
    from noria.evaluation.misread import draw_misread, write_misread

    del outputs
    by_id = {str(row["id"]): row for row in rows}
    shown = [by_id[name] for name in judged.ids]
    write_misread(
        judged, [f"{row['text'] or ''}{' + image' if row['image'] else ''}" for row in shown], directory / "misread.md"
    )
    pictured = np.array([bool(row["image"]) for row in shown])
    draw_misread(judged.where(pictured), [row["image"] for row in shown if row["image"]], directory / "misread.png")


def _sample(directory: Path) -> None:
    """5,000 review forms, each a handwritten mark and a text."""
    from noria.data.marked_reviews import write_marked_reviews

    write_marked_reviews(directory)


SCENARIO = Scenario(
    name="image-text-classification",
    schema=SCHEMA,
    target="label",
    defaults=DEFAULTS,
    measure=image_text.measure,
    repair=image_text.repair,
    duplicate_key=image_text.duplicate_key,
    leak_key=image_text.leak_key,
    augment=image_text.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=image_text.slices,
    request=Request,
    response=Response,
    example={"text": "物流很快，质量很好"},
    sample=_sample,
    labels=_labels,
    request_of=_request_of,
    row_of=_row_of,
    report=_report,
    correct=relabelled("label"),
)
