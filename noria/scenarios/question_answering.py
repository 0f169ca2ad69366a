"""Question answering: a question and a text, and the part of the text that answers it, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from noria.config import Config
from noria.data import answers
from noria.data.media import OPTIONAL
from noria.data.squad import ANSWER, CONTEXT, DOCUMENT, OTHERS, QUESTION, START
from noria.scenarios.base import Encoder, Row, Scenario, Tensors

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from noria.data.span_encoder import SpanEncoder
    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

SCHEMA = pa.schema(
    [
        pa.field(DOCUMENT, pa.string(), metadata=OPTIONAL),
        pa.field(CONTEXT, pa.string()),
        pa.field(QUESTION, pa.string()),
        pa.field(ANSWER, pa.string()),
        pa.field(START, pa.string(), metadata=OPTIONAL),
        pa.field(OTHERS, pa.string(), metadata=OPTIONAL),
    ]
)

DEFAULTS: Mapping[str, object] = {
    "clean": {
        "min_chars": 10,
        "max_chars": 20_000,
        "near_duplicate_similarity": 1.0,
        "label_conflicts": "most_frequent",
    },
    "split": {"group_by": ["document", "context"]},
    "tokenizer": {"vocabulary_size": 6_000, "max_piece_chars": 16, "max_tokens": 320},
    "model": {
        "layers": 3,
        "dim": 128,
        "heads": 4,
        "feed_forward_dim": 384,
        "positions": "rotary",
        "bigram_buckets": 8_192,
        "dropout": 0.1,
        "wide": {"enabled": False},
    },
    "train": {
        "optimizer": "muon",
        "lr": 3e-3,
        "muon_lr": 0.02,
        "schedule": "linear",
        "epochs": 3.0,
        "batch_tokens": 2_048,
        "label_smoothing": 0.0,
    },
    "optimize": {"max_quality_drop": 0.01, "max_slice_drop": 0.05},
}
"""The recipe behind the measured quality (docs/scenarios/question-answering.md)."""


class Request(BaseModel):
    """A question, and the text that may answer it."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=2_000)
    context: str = Field(min_length=1, max_length=200_000)


class Response(BaseModel):
    """The part of the text that answers: `answer` is `context[start:end]` in code points.

    Without an answer it is empty, and start and end are -1. `score` is the model's probability of the answer.
    """

    answer: str
    start: int
    end: int
    score: float


def _request_of_text(text: str) -> Mapping[str, object]:
    """`noria predict "QUESTION<tab>TEXT"`.

    Raises
    ------
    ValueError
        When there is no tab.
    """
    question, tab, context = text.partition("\t")
    if not tab:
        raise ValueError("plain text is a question, a tab, and the text that may answer it")
    return {QUESTION: question, CONTEXT: context}


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> SpanEncoder:
    from noria.data.span_encoder import fit_span_encoder

    return fit_span_encoder(rows, tokenizer=config.tokenizer, spans=config.model.spans)


def _load_encoder(directory: Path) -> SpanEncoder:
    from noria.data.span_encoder import load_span_encoder

    return load_span_encoder(directory)


def _spans(encoder: Encoder) -> SpanEncoder:
    from noria.data.span_encoder import SpanEncoder

    assert isinstance(encoder, SpanEncoder)
    return encoder


def _correct(values: Row, right: str) -> Row | None:
    """An answer is a part of its context: the first that says it."""
    start = str(values[CONTEXT]).find(right)
    return None if start < 0 else {**values, ANSWER: right, START: str(start)}


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.data.span_encoder import FIRST_READABLE, NUM_KINDS
    from noria.model.span_reader import SpanReader

    spans = _spans(encoder)
    return SpanReader(
        config.model,
        vocabulary_size=spans.vocabulary_size,
        max_tokens=spans.max_tokens,
        num_kinds=NUM_KINDS,
        first_readable=FIRST_READABLE,
    )


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.model.span_reader import SpanReader
    from noria.recipes.spans import span_recipe

    assert isinstance(model, SpanReader)
    return span_recipe(config, encoder=_spans(encoder), rows=rows, model=model)


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.answers import judge_answers

    found = _spans(encoder).answers(rows, outputs)
    return judge_answers(rows, [each.text for each in found], confidence=[each.score for each in found])


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    return [
        {"answer": each.text, "start": each.start, "end": each.end, "score": each.score}
        for each in _spans(encoder).answers(requests, outputs)
    ]


def _report(rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: Encoder, directory: Path) -> None:
    from noria.evaluation.answers_report import write_answers_report

    write_answers_report(directory, judged)


def _sample(directory: Path) -> None:
    """Questions that the documentation of Python and of some packages answers, generated from its structure."""
    from noria.data.documentation_sample import write_documentation_sample

    write_documentation_sample(directory)


SCENARIO = Scenario(
    name="question-answering",
    schema=SCHEMA,
    target=ANSWER,
    defaults=DEFAULTS,
    measure=answers.measure,
    repair=answers.repair,
    duplicate_key=answers.duplicate_key,
    augment=answers.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=answers.slices,
    request=Request,
    response=Response,
    example={
        "question": "What does os.path.join return?",
        "context": "os.path.join(a, *p).\nJoin two or more pathname components. Returns the joined path.",
    },
    sample=_sample,
    request_of_text=_request_of_text,
    report=_report,
    leak_key=answers.leak_key,
    correct=_correct,
)
