"""What the page tells of the models that are served: how to ask them, their cards, and what went live when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Generic, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel

from noria.config import ServeConfig
from noria.errors import StoreError
from noria.scenarios.base import can_grow
from noria.serving.bundle import CARD, DATA_CARD
from noria.serving.follower import Followers
from noria.serving.journal import Event
from noria.serving.live import Live
from noria.serving.pointer import Production
from noria.serving.refusal import Refusal
from noria.serving.store import ModelStore

_FRESH_S = 1.0
_MOST_EVENTS = 50
_MOST_CARD_CHARS = 200_000

T = TypeVar("T")


class AboutModel(BaseModel):
    """How to ask one model, and with what; a field of its schema with a `contentMediaType` takes a file in base64."""

    name: str
    version: str
    scenario: str
    path: str
    grows: bool
    """Whether a lone answer is sent piece by piece to who accepts lines."""
    request: dict[str, object]
    example: dict[str, object]


class About(BaseModel):
    """The models, the first of which is also at /predict; whether feedback is kept; what fits into a body."""

    models: list[AboutModel]
    keeps_feedback: bool
    max_batch_rows: int
    max_body_bytes: int


class Cards(BaseModel):
    """Markdown, or nothing where the bundle has none."""

    version: str
    model_card: str
    data_card: str


class Told(BaseModel):
    """An event of the journal, without what the decision rested on."""

    kind: str
    version: str
    time: str
    reason: str


class Tried(BaseModel):
    """What is tried beside the live version: as a "canary" or a "shadow", on which share of the requests."""

    version: str
    mode: str
    share: float


class History(BaseModel):
    """The latest events, latest first; what is live or tried in the store may be another than is served here."""

    served: str
    live: str | None
    tried: Tried | None
    is_followed: bool
    not_served: dict[str, str] | None
    canary_not_served: dict[str, str] | None
    events: list[Told]


def about(
    lives: Mapping[str, Live],
    *,
    config: ServeConfig,
    stores: Mapping[str, ModelStore],
    followers: Mapping[str, Followers],
) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get("/about")
    async def about() -> About:
        """Which models are served, and how to ask them."""
        return About(
            models=[_about(live) for live in lives.values()],
            keeps_feedback=bool(stores),
            max_batch_rows=config.max_batch_rows,
            max_body_bytes=config.max_body_bytes,
        )

    for live in lives.values():
        _add_model(router, live, store=stores.get(live.name), followers=followers.get(live.name))
    return router


def _about(live: Live) -> AboutModel:
    scenario = live.predictor.bundle.scenario
    return AboutModel(
        name=live.name,
        version=live.predictor.version,
        scenario=scenario.name,
        path=f"/models/{live.name}/predict",
        grows=can_grow(live.predictor.bundle.encoder),
        request=scenario.request.model_json_schema(),
        example=dict(scenario.example),
    )


def _add_model(router: APIRouter, live: Live, *, store: ModelStore | None, followers: Followers | None) -> None:
    @router.get(f"/models/{live.name}/cards", summary=f"Cards of {live.name}")
    async def cards() -> Cards:
        """What the model is made of, how good it is, and what its data are."""
        return await asyncio.to_thread(_cards, live)

    told = Briefly(lambda: _read(store) if store else (None, []))

    @router.get(
        f"/models/{live.name}/history",
        summary=f"Versions of {live.name}",
        responses={503: {"description": "the store does not answer"}},
    )
    async def history() -> History:
        """What was published, went live, was taken back, or could not be served."""
        production, events = await told.now()
        canary = production.canary if production else None
        missed = followers.missed() if followers else {}
        failed = {what: {"version": one.version, "reason": one.reason} for what, one in missed.items()}
        return History(
            served=live.predictor.version,
            live=production.version if production else None,
            tried=Tried(version=canary.version, mode=canary.mode, share=canary.share) if canary else None,
            is_followed=store is not None,
            not_served=failed.get("not_served"),
            canary_not_served=failed.get("canary_not_served"),
            events=events,
        )


def _cards(live: Live) -> Cards:
    predictor = live.predictor
    directory = predictor.bundle.artifact.path
    return Cards(version=predictor.version, model_card=_text(directory / CARD), data_card=_text(directory / DATA_CARD))


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_CARD_CHARS)
    except OSError:  # older bundles have no data card, and a store may have been cleared behind what is served
        return ""


def _read(store: ModelStore) -> tuple[Production | None, list[Told]]:
    try:
        production, events = store.production(), store.journal.latest(_MOST_EVENTS)
    except (StoreError, OSError) as error:
        what = error.what if isinstance(error, StoreError) else str(error)
        raise Refusal(503, f"the store does not tell its history: {what}", reason="store", retry_after_s=5) from error
    return production, [_told(event) for event in reversed(events)]


def _told(event: Event) -> Told:
    fields = asdict(event)
    return Told(**{name: str(fields[name]) for name in Told.model_fields})


class Briefly(Generic[T]):
    """Asks at most once a second, however many want to know, and remembers a refusal as long."""

    def __init__(self, ask: Callable[[], T], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._asking = asyncio.Lock()
        self._said: T | Refusal | None = None
        self._until_s = float("-inf")

    async def now(self) -> T:
        """What was said a second ago at most.

        Raises
        ------
        Refusal
            When it was that.
        """
        async with self._asking:
            if self._clock() >= self._until_s:
                try:
                    self._said = await asyncio.to_thread(self._ask)
                except Refusal as refusal:
                    self._said = refusal
                self._until_s = self._clock() + _FRESH_S
            said = self._said
        if isinstance(said, Refusal):
            raise said
        assert said is not None
        return said
