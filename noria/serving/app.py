"""The model server: FastAPI in front of one predictor.

`POST /predict` takes one request (`{"text": …}`) or many (`{"inputs": [{"text": …}, …]}`); `GET
/healthz` says that the process lives, `GET /readyz` that it can answer. Every answer names the
model's version, and every refusal says what, where, what was expected, and what to do next.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError, create_model
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from noria.config import ServeConfig
from noria.errors import NoriaError
from noria.scenarios.base import Scenario
from noria.serving.predictor import VERSION_FIELD, Predictor

logger = logging.getLogger(__name__)

MANY = "inputs"
_MOST_ECHOED_CHARS = 100


class Live:
    """What the server answers with. Replacing `predictor` is one assignment: a request keeps the one it began with."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor


class Refusal(NoriaError):
    """A request that can't be answered; `status` is HTTP's."""

    def __init__(self, status: int, what: str, *, where: str = "", expected: str = "", next_step: str = "") -> None:
        self.status = status
        super().__init__(what, where=where, expected=expected, next_step=next_step)


def create_app(predictor: Predictor, *, config: ServeConfig) -> FastAPI:
    """The application; `app.state.live` holds the model."""
    app = FastAPI(title=f"Noria: {predictor.bundle.scenario.name}", version=predictor.version)
    live = app.state.live = Live(predictor)
    _refuse_in_json(app, live)

    @app.get("/healthz")
    async def healthz() -> Mapping[str, str]:
        """The process lives."""
        return {"status": "alive", VERSION_FIELD: live.predictor.version}

    @app.get("/readyz")
    async def readyz() -> Mapping[str, str]:
        """The model is loaded: requests are answered."""
        return {"status": "ready", VERSION_FIELD: live.predictor.version}

    @app.post("/predict", openapi_extra=_documentation(predictor.bundle.scenario))
    async def predict(request: Request) -> JSONResponse:
        """Answer one request, or many under `inputs`."""
        current = live.predictor
        body = _parse(await _read(request, max_bytes=config.max_body_bytes))
        # To look at an image or a recording can take seconds, and ONNX Runtime computes without Python's lock:
        # the event loop goes on accepting.
        return JSONResponse(await run_in_threadpool(_answer, body, current, max_rows=config.max_batch_rows))

    return app


async def _read(request: Request, *, max_bytes: int) -> bytes:
    """The body, refused as soon as it is too long."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise Refusal(
                    413,
                    "the body is too long",
                    expected=f"at most {max_bytes:,} bytes",
                    next_step="send fewer rows at once, or raise `serve.max_body_bytes`",
                )
    except ClientDisconnect as error:
        raise Refusal(400, "the client went away before the body was complete") from error
    return bytes(body)


def _parse(body: bytes) -> Mapping[str, object]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:  # not UTF-8, and nested without end
        raise Refusal(400, f"the body is not JSON: {error}", expected="a JSON object") from error
    if not isinstance(values, dict):
        raise Refusal(400, "the body is not a JSON object", expected='{"inputs": [ … ]}, or the fields of one request')
    return values


def _answer(body: Mapping[str, object], predictor: Predictor, *, max_rows: int) -> Mapping[str, object]:
    """What the body asks, answered."""
    rows, single = _rows(body, predictor.bundle.scenario, max_rows=max_rows)
    outputs = predictor.answer(rows)
    return outputs[0] if single else {"outputs": outputs, VERSION_FIELD: predictor.version}


def _rows(
    body: Mapping[str, object], scenario: Scenario, *, max_rows: int
) -> tuple[Sequence[Mapping[str, object]], bool]:
    """The validated requests, and whether there was one alone."""
    if MANY not in body:
        return [_row(body, scenario, "")], True
    given = body[MANY]
    if not isinstance(given, list) or not given:
        raise Refusal(422, f"`{MANY}` holds no requests", where=MANY, expected="a list of at least one request")
    if len(given) > max_rows:
        raise Refusal(
            413,
            f"`{MANY}` holds {len(given):,} requests",
            where=MANY,
            expected=f"at most {max_rows:,}",
            next_step="send them in several bodies, or raise `serve.max_batch_rows`",
        )
    return [_row(values, scenario, f"{MANY}.{i}") for i, values in enumerate(given)], False


def _row(values: object, scenario: Scenario, where: str) -> Mapping[str, object]:
    try:
        return scenario.row_of(scenario.request.model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (where, *first["loc"]) if part != "")[:_MOST_ECHOED_CHARS]
        raise Refusal(
            422,
            f"`{place or 'the body'}`: {first['msg']}",
            where=place,
            expected=f"the fields {', '.join(scenario.request.model_fields)}",
            next_step=f"for example {json.dumps(dict(scenario.example), ensure_ascii=False)}",
        ) from error


def _refuse_in_json(app: FastAPI, live: Live) -> None:
    """Every refusal in one shape, with the model's version."""

    def answer(refusal: Refusal) -> JSONResponse:
        fields = {
            "what": refusal.what,
            "where": refusal.where,
            "expected": refusal.expected,
            "next": refusal.next_step,
        }
        error = {name: text for name, text in fields.items() if text}
        return JSONResponse({"error": error, VERSION_FIELD: live.predictor.version}, status_code=refusal.status)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return answer(refusal)

    @app.exception_handler(HTTPException)
    async def not_served(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {request.url.path}: {error.detail}"
        return answer(Refusal(error.status_code, what, expected="POST /predict, GET /healthz, GET /readyz, GET /docs"))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        logger.error("a request failed", exc_info=error)
        return answer(Refusal(500, "the model failed on this request", next_step="the server's log has the trace"))


def _documentation(scenario: Scenario) -> dict[str, object]:
    """The request and the answer for /docs: the body is parsed by hand, to say precisely what is wrong with it."""
    one = scenario.request.model_json_schema()
    many = {"type": "object", "properties": {MANY: {"type": "array", "items": one, "minItems": 1}}, "required": [MANY]}
    examples = {
        "one": {"value": dict(scenario.example)},
        "many": {"value": {MANY: [dict(scenario.example)]}},
    }
    answer: type[BaseModel] = create_model("Answer", __base__=scenario.response, **{VERSION_FIELD: (str, ...)})  # type: ignore[call-overload]
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": [one, many]}, "examples": examples}},
        },
        "responses": {"200": {"content": {"application/json": {"schema": answer.model_json_schema()}}}},
    }
