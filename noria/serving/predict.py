"""The scenario's own routes: one request (`{"text": …}`), or many (`{"inputs": [{"text": …}, …]}`).

With `Accept: application/x-ndjson`, one answer a line, in order, each as soon as it is there; before a lone answer that
grows, its pieces.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError, create_model
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from noria.scenarios.base import Row, Scenario
from noria.serving.body import parse_object, unless_gone
from noria.serving.growth import PIECE, Growth, Pieces
from noria.serving.lines import LINES, line_of
from noria.serving.live import Live, outcome
from noria.serving.plain_route import PlainRoute
from noria.serving.predictor import VERSION_FIELD
from noria.serving.reading import InTime
from noria.serving.refusal import Refusal, error_fields, first_error
from noria.serving.tally import Answer

MANY = "inputs"
_ERRORS = {
    400: "the body is not JSON, or the Host header is wrong",
    401: "the token is missing or wrong",
    408: "the body did not come",
    413: "the body is too long, or holds too many requests",
    422: "a field is missing or wrong",
    429: "too much to do: try again after Retry-After",
    500: "the model failed on this request",
    503: "stopping, or waited too long: try again after Retry-After",
}


@dataclass(frozen=True)
class Given:
    """The validated requests, and whether there was one alone."""

    rows: Sequence[Row]
    is_single: bool


def add_predict(app: FastAPI, path: str, live: Live, *, max_rows: int) -> None:
    """Serve the model at `path`."""
    read = partial(_read, max_rows=max_rows)

    async def predict(request: Request) -> Response:
        """Answer one request, or many under `inputs`."""
        if LINES in request.headers.get("accept", ""):
            with ExitStack() as inside:
                asked = await live.ask(request, read=read, inside=inside, may_grow=True)
                if not asked.beginnings:
                    return _Lines(asked.answers, inside.pop_all())
                growth = Growth(live, asked.predictor, asked.beginnings, asked.place)
                first = await growth.more(request.receive, request_id=request.state.request_id)
                return Pieces(first or "", growth, inside.pop_all())
        done = await live.answer(request, read=read)
        many = {"outputs": done.answers, VERSION_FIELD: done.version}
        return JSONResponse(done.answers[0] if done.given.is_single else many)

    app.router.add_api_route(
        path,
        predict,
        methods=["POST"],
        summary=f"Ask {live.name}",
        openapi_extra=_documentation(live.predictor.bundle.scenario),
        route_class_override=PlainRoute,
    )


class _Lines(Response):
    """Answers as they come, in order; an answer that fails is an error in its line."""

    media_type = LINES

    def __init__(self, answers: Sequence[asyncio.Future[Answer]], inside: ExitStack) -> None:
        super().__init__()
        del self.headers["content-length"]  # known at the end only
        self._answers = answers
        self._inside = inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._inside:
            # A client that reads slowly takes up no place once there is nothing more to compute for it.
            asyncio.gather(*self._answers, return_exceptions=True).add_done_callback(lambda _: self._inside.close())
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for answer in self._answers:
                try:
                    await unless_gone(receive, answer)
                except Refusal:  # nobody is there to read the rest
                    return
                line = line_of(_line(answer, scope["state"]["request_id"]))
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _line(answer: asyncio.Future[Answer], request_id: str) -> Mapping[str, object]:
    try:
        return outcome(answer, request_id=request_id)
    except Refusal as refusal:
        return {"error": error_fields(refusal), "request_id": request_id}


def _read(body: bytes, scenario: Scenario, in_time: InTime, *, max_rows: int) -> Given:
    values = parse_object(body)
    if MANY not in values:
        return Given([row_of(values, scenario, "")], is_single=True)
    given = values[MANY]
    if not isinstance(given, list) or not given:
        raise Refusal(422, f"`{MANY}` holds no requests", where=MANY, expected="a list of at least one request")
    refuse_more_rows(len(given), max_rows, where=MANY)
    rows = (row_of(value, scenario, f"{MANY}.{i}") for i, value in enumerate(given))
    return Given(list(in_time(rows)), is_single=False)


def refuse_more_rows(num_rows: int, max_rows: int, *, where: str) -> None:
    """Raises a Refusal when there are too many."""
    if num_rows > max_rows:
        raise Refusal(
            413,
            f"`{where}` holds {num_rows:,} requests",
            where=where,
            expected=f"at most {max_rows:,}",
            next_step="send them in several bodies, or raise `serve.max_batch_rows`",
        )


def row_of(values: object, scenario: Scenario, where: str) -> Row:
    """The row of one request, or a Refusal that names what is wrong with it."""
    return scenario.row_of(validated(values, scenario, where))


def validated(values: object, scenario: Scenario, where: str) -> BaseModel:
    """One request, or a Refusal that names what is wrong with it."""
    try:
        return scenario.request.model_validate(values)
    except ValidationError as error:
        place, said = first_error(error, where)
        raise Refusal(
            422,
            f"`{place or 'the body'}`: {said}",
            where=place,
            expected=f"the fields {', '.join(scenario.request.model_fields)}",
            next_step=f"for example {json.dumps(dict(scenario.example), ensure_ascii=False)}",
        ) from error


def _documentation(scenario: Scenario) -> dict[str, object]:
    """The request and the answer for /docs: the body is parsed by hand, to say precisely what is wrong with it."""
    one = scenario.request.model_json_schema()
    many = {"type": "object", "properties": {MANY: {"type": "array", "items": one, "minItems": 1}}, "required": [MANY]}
    examples = {
        "one": {"value": dict(scenario.example)},
        "many": {"value": {MANY: [dict(scenario.example)]}},
    }
    model: type[BaseModel] = create_model("Answer", __base__=scenario.response, **{VERSION_FIELD: (str, ...)})  # type: ignore[call-overload]
    answer = model.model_json_schema()
    answers = {
        "type": "object",
        "properties": {"outputs": {"type": "array", "items": answer}, VERSION_FIELD: {"type": "string"}},
        "required": ["outputs", VERSION_FIELD],
    }
    piece = {"type": "object", "properties": {PIECE: {"type": "string"}}, "required": [PIECE]}
    content = {
        "application/json": {"schema": {"anyOf": [answer, answers]}},
        LINES: {"schema": {"anyOf": [answer, piece]}},
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": [one, many]}, "examples": examples}},
        },
        "responses": {
            "200": {"description": "the answer, or the answers in order", "content": content},
            **documented_errors(_ERRORS),
        },
    }


def documented_errors(errors: Mapping[int, str]) -> dict[str, object]:
    """Refusals for /docs, by status."""
    texts = {name: {"type": "string"} for name in ("what", "where", "expected", "next")}
    error = {"type": "object", "properties": texts, "required": ["what"]}
    schema = {
        "type": "object",
        "properties": {"error": error, VERSION_FIELD: {"type": "string"}},
        "required": ["error"],
    }
    content = {"application/json": {"schema": schema}}
    return {str(status): {"description": told, "content": content} for status, told in errors.items()}
