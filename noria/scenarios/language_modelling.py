"""Language modelling: what comes next in a text. Set for a source-code tree of about ten megabytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from noria.config import Config
from noria.data import documents
from noria.data.media import OPTIONAL
from noria.scenarios.base import Encoder, Parts, Row, Scenario, Tensors

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from noria.data.document_encoder import DocumentEncoder
    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

SCHEMA = pa.schema([pa.field("text", pa.string()), pa.field("name", pa.string(), metadata=OPTIONAL)])

DEFAULTS: Mapping[str, object] = {
    "source": {"format": "documents"},
    "preprocess": {"batch_rows": 1_000},
    "clean": {"min_chars": 20, "max_chars": 1_000_000, "near_duplicate_similarity": 0.8},
    "split": {"near_duplicate_similarity": 0.5},
    "tokenizer": {"vocabulary_size": 2_048, "max_piece_chars": 24, "max_tokens": 512},
    "model": {
        "layers": 4,
        "dim": 128,
        "heads": 4,
        "feed_forward_dim": 512,
        "positions": "rotary",
        "bigram_buckets": 32_768,
        "wide": {"enabled": False},
        "generation": {"beams": 1, "max_tokens": 256},
    },
    "train": {
        "optimizer": "muon",
        "lr": 3e-3,
        "muon_lr": 2e-2,
        "schedule": "linear",
        "epochs": 1.5,
        "batch_tokens": 2_048,
        "holdout_share": 0.02,
    },
    "evaluate": {"min_slice_rows": 20},
    "optimize": {
        "candidates": ["fp32", "int8"],
        "max_quality_drop": 0.005,
        "max_slice_drop": 0.02,
        "latency_repeats": 5,
    },
}
"""Small data, little time: `docs/scenarios/language-modelling.md` has the measurements."""

_PROMPT_CHARS, _ANSWER_TOKENS = 200, 16


class Request(BaseModel):
    """A text to go on from, and how; equal requests have equal answers."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    prompt: str = Field(max_length=100_000)
    max_new_tokens: int = Field(default=64, ge=1, le=4_096)
    """At most; never more than the model was set for."""
    temperature: float = Field(default=0.8, ge=0, le=10)
    """0 takes the likeliest token at every step; above 1 is more daring than the model was trained to be."""
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    """Only so many of the likeliest tokens may come; 0 is all."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Only the fewest tokens that have this probability together may come."""
    seed: int = Field(default=0, ge=0, lt=2**63)


class Response(BaseModel):
    """What comes behind the prompt."""

    text: str


def _request_of(row: Row) -> Mapping[str, object]:
    prompt = str(row["text"] or "")[:_PROMPT_CHARS]
    return {"prompt": prompt, "max_new_tokens": _ANSWER_TOKENS, "temperature": 0.0}


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> DocumentEncoder:
    from noria.data.document_encoder import fit_document_encoder

    return fit_document_encoder(rows, tokenizer=config.tokenizer, generation=config.model.generation)


def _load_encoder(directory: Path) -> DocumentEncoder:
    from noria.data.document_encoder import load_document_encoder

    return load_document_encoder(directory)


def _own(encoder: Encoder) -> DocumentEncoder:
    from noria.data.document_encoder import DocumentEncoder

    assert isinstance(encoder, DocumentEncoder)
    return encoder


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.model.language_model import LanguageModel

    fitted = _own(encoder)
    return LanguageModel(config.model, vocabulary_size=fitted.vocabulary_size, max_tokens=fitted.max_tokens)


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.model.language_model import LanguageModel
    from noria.recipes.language_modelling import language_modelling_recipe

    assert isinstance(model, LanguageModel)
    return language_modelling_recipe(config, rows=rows, model=model)


def _parts(model: torch.nn.Module, example: Tensors) -> Parts:
    from noria.export.language_model import language_model_parts
    from noria.model.language_model import LanguageModel

    assert isinstance(model, LanguageModel)
    return language_model_parts(model, example)


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.language import judge_documents

    return judge_documents(rows, outputs, _own(encoder))


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    from noria.data.document_encoder import TOKENS

    own = _own(encoder)
    prompts = [encoded["prompt"] for encoded in own.encode_batch(requests)]
    return [
        {"text": own.decode(output[TOKENS][len(prompt) - 1 :])} for prompt, output in zip(prompts, outputs, strict=True)
    ]


def _report(rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: Encoder, directory: Path) -> None:
    from noria.evaluation.language_report import write_language_report

    write_language_report(rows, outputs, judged, _own(encoder), directory)


def _sample(directory: Path) -> None:
    """The source of the installed Python's standard library, without its tests and what pip installed."""
    from noria.data.samples import copy_standard_library

    copy_standard_library(directory)


SCENARIO = Scenario(
    name="language-modelling",
    schema=SCHEMA,
    target="text",
    defaults=DEFAULTS,
    measure=documents.measure,
    repair=documents.repair,
    duplicate_key=documents.duplicate_key,
    augment=documents.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=documents.slices,
    request=Request,
    response=Response,
    example={"prompt": "def main(", "max_new_tokens": 32, "temperature": 0.8, "top_p": 0.95, "seed": 1},
    sample=_sample,
    request_of=_request_of,
    parts=_parts,
    report=_report,
    is_labelled=False,
    written="text",
)
