"""What people say of answers: right, or wrong and what would have been right; one object each, kept in the store.

<name>/feedback/<time>-<id>.json
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.responses import JSONResponse

from noria.config import ServeConfig
from noria.errors import StoreError
from noria.scenarios.base import Scenario
from noria.serving.admission import Admission
from noria.serving.body import parse_object, read_body
from noria.serving.clients import pseudonym_of
from noria.serving.live import Live
from noria.serving.metrics import Metrics
from noria.serving.objects import Objects
from noria.serving.predict import documented_errors, validated
from noria.serving.rate import Rates
from noria.serving.refusal import Refusal, first_error

logger = logging.getLogger(__name__)

_AT_ONCE = 16
_WRITERS = 2  # few of the threads that the server has for waiting: what is live in the store needs one, too
_BODY_WAIT_S = 30.0
_BESIDE_THE_REQUEST_BYTES = 200_000
_ERRORS = {
    400: "the body is not JSON, or the Host header is wrong",
    401: "the token is missing or wrong",
    408: "the body did not come",
    409: "the server follows no store that could keep it",
    413: "the body is too long",
    415: "the body is not said to be JSON",
    422: "a field is missing or wrong",
    429: "too much feedback: try again after Retry-After",
    503: "the store can't be written",
}


class Feedback(BaseModel):
    """An answer as it was given to a request, and whether it is right."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = Field(min_length=1, max_length=200)
    request: dict[str, object]
    response: dict[str, object]
    request_id: str = Field(pattern=r"^[A-Za-z0-9._:/+=-]{1,128}$")
    model_version: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    is_right: bool
    correction: str | None = Field(default=None, min_length=1, max_length=20_000)
    """Of a wrong answer: what would have been right."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.is_right and self.correction is not None:
            raise ValueError("an answer that is right has no correction")
        return self


@dataclass(frozen=True)
class Shelf:
    """Where the feedback on one model is kept: the objects of its store, under its name there."""

    objects: Objects
    name: str

    def keep(self, fields: Mapping[str, object]) -> str:
        """Write one object that is never written again; returns its id.

        Raises
        ------
        StoreError
            When the store can't be written.
        """
        while True:
            now, name = datetime.now(UTC), uuid.uuid4().hex
            event = {"id": name, "time": now.isoformat(), **fields}
            data = json.dumps(event, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            if self.objects.create(f"{self.name}/feedback/{now:%Y%m%dT%H%M%S.%fZ}-{name}.json", data):
                return name


def feedback(
    lives: Mapping[str, Live],
    *,
    shelves: Mapping[str, Shelf],
    config: ServeConfig,
    metrics: Metrics,
    clients_key: bytes,
) -> APIRouter:
    """The route; of a client only its pseudonym under that key is kept."""
    router = APIRouter()
    max_bytes = config.max_body_bytes + _BESIDE_THE_REQUEST_BYTES
    rates = Rates(max_bytes=max_bytes)
    admission = Admission(
        max_wait_s=_BODY_WAIT_S,
        max_requests=_AT_ONCE,
        max_body_bytes=max_bytes,
        max_client_share=config.max_client_share,
    )
    writing = asyncio.Semaphore(_WRITERS)

    async def say(request: Request) -> JSONResponse:
        """Say whether an answer was right."""
        _refuse_what_a_foreign_page_can_send(request)
        _refuse_without_a_store(shelves)
        rates.come(request.state.client)
        with admission.enter(request.state.client) as place:
            body = await read_body(request, place, max_bytes=max_bytes)
            rates.hold(len(body))
            client = pseudonym_of(request.state.client, key=clients_key)
            async with writing:
                name, said = await asyncio.to_thread(partial(_keep, body, client=client, lives=lives, shelves=shelves))
        metrics.said(said.model, is_right=said.is_right)
        lives[said.model].judged(said.request_id, is_right=said.is_right)
        request.state.told = {"model": said.model, "version": said.model_version}
        return JSONResponse({"id": name}, status_code=201)

    router.post("/feedback", status_code=201, openapi_extra=_documentation(), summary="Feedback on an answer")(say)
    return router


def _keep(body: bytes, *, client: str, lives: Mapping[str, Live], shelves: Mapping[str, Shelf]) -> tuple[str, Feedback]:
    """Validate it and keep it. To look at an image or a recording can take seconds: not for the event loop."""
    said = _read(body)
    live, shelf = lives.get(said.model), shelves.get(said.model)
    if live is None:
        raise Refusal(422, "`model`: there is no such model", where="model", expected=f"one of {', '.join(lives)}")
    if shelf is None:
        raise _no_store(said.model)
    fields = {"client": client, **said.model_dump(), **_as_the_scenario_has_it(said, live.predictor.bundle.scenario)}
    try:
        return shelf.keep(fields), said
    except (StoreError, OSError) as error:
        logger.error("feedback on %s is lost: %s", said.model, error)
        raise Refusal(503, "the store can't be written", reason="store", retry_after_s=30) from error
    except ValueError as error:  # a number that JSON does not have
        raise Refusal(422, "it holds what JSON can't", expected="finite numbers") from error


def _read(body: bytes) -> Feedback:
    try:
        return Feedback.model_validate(parse_object(body))
    except ValidationError as error:
        place, what = first_error(error)
        raise Refusal(
            422,
            f"`{place or 'the body'}`: {what}",
            where=place,
            expected=f"the fields {', '.join(Feedback.model_fields)}",
        ) from error


def _as_the_scenario_has_it(said: Feedback, scenario: Scenario) -> Mapping[str, object]:
    """Request and response as their types have them, so that nothing else comes into the store."""
    request = validated(said.request, scenario, "request")
    try:
        response = scenario.response.model_validate(said.response)
    except ValidationError as error:
        place, what = first_error(error, "response")
        raise Refusal(422, f"`{place}`: {what}", where=place, expected="the answer as it was given") from error
    return {"request": request.model_dump(exclude_unset=True), "response": response.model_dump()}


def _refuse_what_a_foreign_page_can_send(request: Request) -> None:
    """A page of another origin can make a browser post text here, but JSON only if it is allowed to: nobody is."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "the body is not said to be JSON", expected="Content-Type: application/json")


def _refuse_without_a_store(shelves: Mapping[str, Shelf]) -> None:
    if not shelves:
        raise _no_store("what is served")


def _no_store(what: str) -> Refusal:
    return Refusal(
        409,
        f"feedback on {what} has no place: its store is not followed",
        expected="a server that follows its store",
        next_step="`noria serve` without --version follows it",
        reason="no_store",
    )


def _documentation() -> dict[str, object]:
    kept = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": Feedback.model_json_schema()}}},
        "responses": {
            "201": {"description": "kept", "content": {"application/json": {"schema": kept}}},
            **documented_errors(_ERRORS),
        },
    }
