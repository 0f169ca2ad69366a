"""Translation: a text in one language to its translation in another. Set for short messages of programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from noria.config import Config
from noria.data import translation
from noria.scenarios.base import Encoder, Parts, Row, Scenario, Tensors, relabelled

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from noria.data.pair_encoder import PairEncoder
    from noria.evaluation.judged import Judged
    from noria.evaluation.translation import BleuTokens
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

SCHEMA = pa.schema([pa.field("source", pa.string()), pa.field("target", pa.string())])
COPY = "the source, copied"

DEFAULTS: Mapping[str, object] = {
    "clean": {
        "min_chars": 1,
        "max_chars": 1_000,
        "near_duplicate_similarity": 1.0,
        "label_conflicts": "most_frequent",
    },
    "tokenizer": {"vocabulary_size": 6_000, "max_piece_chars": 16, "max_tokens": 128},
    "model": {
        "layers": 3,
        "dim": 256,
        "heads": 4,
        "feed_forward_dim": 768,
        "positions": "rotary",
        "bigram_buckets": 0,
        "dropout": 0.2,
        "wide": {"enabled": False},
        "generation": {"beams": 4, "length_penalty": 1.0, "max_tokens": 128},
    },
    "train": {
        "optimizer": "muon",
        "lr": 2e-3,
        "muon_lr": 1e-2,
        "schedule": "linear",
        "epochs": 20.0,
        "batch_tokens": 2_048,
        "label_smoothing": 0.1,
    },
    "optimize": {
        "candidates": ["fp32", "int8"],
        "max_quality_drop": 0.01,
        "max_slice_drop": 0.05,
        "latency_repeats": 50,
    },
}
"""Small data: dropout, many passes. `docs/scenarios/translation.md` has the measurements."""

_PACKAGES = {
    "cms": ("zh_CN",),
    "django": ("zh_Hans",),
    "horizon": ("zh_Hans",),
    "jupyterlab_language_pack_zh_CN": ("zh_CN",),
    "openstack_dashboard": ("zh_Hans",),
    "oscar": ("zh_CN",),
    "sphinx": ("zh_CN",),
    "spyder": ("zh_CN",),
    "wagtail": ("zh_Hans",),
}
_DISTRIBUTIONS = {
    "cms": "django-cms",
    "jupyterlab_language_pack_zh_CN": "jupyterlab-language-pack-zh-CN",
    "openstack_dashboard": "horizon",
    "oscar": "django-oscar",
}
"""Permissively licensed packages whose wheels bring catalogs, and their locales for simplified Chinese."""


class Request(BaseModel):
    """One text to translate."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(min_length=1, max_length=5_000)


class Response(BaseModel):
    """Its translation, and whether the placeholders and tags of the source are in it."""

    text: str
    placeholders_kept: bool


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> PairEncoder:
    from noria.data.pair_encoder import fit_pair_encoder

    return fit_pair_encoder(
        rows,
        source_column="source",
        target_column="target",
        config=config.tokenizer,
        beams=config.model.generation.beams,
    )


def _load_encoder(directory: Path) -> PairEncoder:
    from noria.data.pair_encoder import load_pair_encoder

    return load_pair_encoder(directory)


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.errors import ConfigError
    from noria.model.translator import Translator

    if config.model.bigram_buckets:
        raise ConfigError(
            "a model that generates has no bigrams",
            where=f"params.yaml: model.bigram_buckets: {config.model.bigram_buckets}",
            expected="0",
            next_step="leave `model.bigram_buckets` out",
        )
    pairs = _pairs(encoder)
    return Translator(config.model, vocabulary_size=pairs.vocabulary_size, max_tokens=pairs.max_tokens)


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.model.translator import Translator
    from noria.recipes.translation import translation_recipe

    assert isinstance(model, Translator)
    return translation_recipe(config, rows=rows, model=model)


def _parts(model: torch.nn.Module, example: Tensors) -> Parts:
    from noria.export.generation import generation_parts
    from noria.model.translator import Translator

    assert isinstance(model, Translator)
    return generation_parts(model, example, config=model.config.generation)


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.translation import judge_translations

    pairs = _pairs(encoder)
    answers = _texts(rows, outputs, pairs)
    return judge_translations(
        rows,
        answers,
        tokens=cast("BleuTokens", pairs.bleu_tokens),
        slices=translation.slices,
        trivial_name=COPY,
    )


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    from noria.data.placeholders import same_placeholders

    pairs = _pairs(encoder)
    texts = _texts(requests, outputs, pairs)
    return [
        {"text": text, "placeholders_kept": same_placeholders(str(request["source"]), text)}
        for request, text in zip(requests, texts, strict=True)
    ]


def _report(rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: Encoder, directory: Path) -> None:
    from noria.evaluation.translation_report import write_translation_report

    write_translation_report(directory, judged)


def _sample(directory: Path) -> None:
    """Catalogs of programs, English to simplified Chinese (BSD licences)."""
    from noria.data.samples import copy_catalogs

    copy_catalogs(_PACKAGES, directory, distributions=_DISTRIBUTIONS)


def _texts(rows: Sequence[Row], outputs: Sequence[Tensors], pairs: PairEncoder) -> list[str]:
    from noria.data.pair_encoder import TOKENS

    return [pairs.decode(output[TOKENS], source=str(row["source"])) for row, output in zip(rows, outputs, strict=True)]


def _pairs(encoder: Encoder) -> PairEncoder:
    from noria.data.pair_encoder import PairEncoder

    assert isinstance(encoder, PairEncoder)
    return encoder


SCENARIO = Scenario(
    name="translation",
    schema=SCHEMA,
    target="target",
    defaults=DEFAULTS,
    measure=translation.measure,
    repair=translation.repair,
    duplicate_key=translation.duplicate_key,
    augment=translation.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=translation.slices,
    request=Request,
    response=Response,
    example={"source": "Delete the selected %(name)s"},
    sample=_sample,
    parts=_parts,
    report=_report,
    written="text",
    correct=relabelled("target"),
)
