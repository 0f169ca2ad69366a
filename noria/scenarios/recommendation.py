"""Recommendation: what will a user take next? Events of users, items and times; set for MovieLens 100K."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from noria.config import Config
from noria.data import event_rows
from noria.data.histories import hold_out_last
from noria.scenarios.base import Encoder, Row, Scenario, Tensors

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from noria.data.item_encoder import ItemEncoder
    from noria.evaluation.judged import Judged
    from noria.training.data import TrainingRows
    from noria.training.recipe import Recipe

DEFAULTS: Mapping[str, object] = {
    "clean": {"near_duplicate_similarity": 1.0},
    "split": {"group_by": "user", "validation_share": 1.0, "near_duplicate_similarity": 1.0},
    "model": {
        "layers": 2,
        "dim": 64,
        "heads": 2,
        "feed_forward_dim": 256,
        "positions": "rotary",
        "bigram_buckets": 0,
        "dropout": 0.4,
        "history": {"max_events": 50},
        "wide": {"enabled": False},
    },
    "train": {
        "optimizer": "muon",
        "lr": 1e-3,
        "muon_lr": 5e-3,
        "schedule": "linear",
        "epochs": 60.0,
        "batch_tokens": 2_048,
        "label_smoothing": 0.0,
        "pretrain": {"epochs": 0.0},
    },
    "update": {"drift": {"ignore": ("year",)}},
}
"""The recipe behind the measured quality (docs/scenarios/recommendation.md)."""
_MOST_ITEMS = 1_000
ItemId = Annotated[str, Field(min_length=1, max_length=500)]


class Request(BaseModel):
    """What a user did so far."""

    model_config = ConfigDict(extra="forbid")

    history: list[ItemId] = Field(max_length=10_000)
    """Items, oldest first; empty for a user who is new."""
    k: int = Field(default=10, ge=1, le=_MOST_ITEMS)
    """How many items to recommend."""
    include_seen: bool | None = None
    """Whether items of the history may be recommended; by default as the model was trained (`model.history`)."""


class Response(BaseModel):
    """The most likely next items, best first."""

    items: list[str]
    scores: list[float]
    """Of each, the probability that it is the next item, among all items of the catalogue."""
    unknown: list[str]
    """Items of the history that the model does not know; it ignored them."""


def _fit_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> ItemEncoder:
    from noria.data.item_encoder import fit_item_encoder

    return fit_item_encoder(rows, config.model.history)


def _load_encoder(directory: Path) -> ItemEncoder:
    from noria.data.item_encoder import load_item_encoder

    return load_item_encoder(directory)


def _own(encoder: Encoder) -> ItemEncoder:
    from noria.data.item_encoder import ItemEncoder

    assert isinstance(encoder, ItemEncoder)
    return encoder


def _build_model(config: Config, encoder: Encoder) -> torch.nn.Module:
    from noria.data.item_encoder import NUM_SPECIAL
    from noria.model.recommender import Recommender

    return Recommender(config.model, num_items=len(_own(encoder).items), num_special=NUM_SPECIAL)


def _recipe(config: Config, encoder: Encoder, rows: TrainingRows, model: torch.nn.Module) -> Recipe:
    from noria.model.recommender import Recommender
    from noria.recipes.next_items import recommendation_recipe

    assert isinstance(model, Recommender)
    return recommendation_recipe(config, max_events=_own(encoder).max_events, rows=rows, model=model)


def _judge(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> Judged:
    from noria.evaluation.ranking import judge_ranks

    return judge_ranks(rows, outputs, _own(encoder))


def _decode(requests: Sequence[Row], outputs: Sequence[Tensors], encoder: Encoder) -> list[dict[str, object]]:
    """The best items that may be recommended, and the items of the history that the model ignored."""
    from noria.evaluation.inference import logits_of, softmax
    from noria.evaluation.ranking import best, hidden_of, history_of

    catalogue = _own(encoder)
    answers: list[dict[str, object]] = []
    for request, scores_V in zip(requests, softmax(logits_of(outputs)), strict=True):
        num = request.get("k", 10)
        assert isinstance(num, int)
        places = best(scores_V, num, hidden=hidden_of(request, catalogue))
        unknown = dict.fromkeys(str(item) for item in history_of(request) if item not in catalogue.numbers)
        answers.append(
            {
                "items": [catalogue.items[place] for place in places],
                "scores": scores_V[places].tolist(),
                "unknown": list(unknown),
            }
        )
    return answers


def _slices(row: Row) -> Mapping[str, bool]:
    """By length of the history; by the item's popularity, too, where a model is judged."""
    from noria.evaluation.ranking import length_slices

    return length_slices(row)


def _request_of(row: Row) -> Mapping[str, object]:
    from noria.evaluation.ranking import history_of

    return {"history": list(history_of(row)), "k": 5}


def _report(rows: Sequence[Row], outputs: Sequence[Tensors], judged: Judged, encoder: Encoder, directory: Path) -> None:
    from noria.evaluation.ranking_report import write_ranking_report

    write_ranking_report(rows, judged, directory)


def _sample(directory: Path) -> None:
    """100,000 ratings of 943 users for 1,682 films: MovieLens 100K, whose terms forbid passing it on."""
    from noria.data.movielens import write_movielens

    write_movielens(directory)


SCENARIO = Scenario(
    name="recommendation",
    schema=event_rows.SCHEMA,
    target="item",
    defaults=DEFAULTS,
    measure=event_rows.measure,
    repair=event_rows.repair,
    duplicate_key=event_rows.duplicate_key,
    augment=event_rows.augment,
    fit_encoder=_fit_encoder,
    load_encoder=_load_encoder,
    build_model=_build_model,
    recipe=_recipe,
    judge=_judge,
    decode=_decode,
    slices=_slices,
    request=Request,
    response=Response,
    example={"history": ["Star Wars (1977)", "Empire Strikes Back, The (1980)"], "k": 5},
    sample=_sample,
    request_of=_request_of,
    request_of_text=lambda text: {"history": [item.strip() for item in text.split(";") if item.strip()]},
    report=_report,
    hold_out=hold_out_last,
)
