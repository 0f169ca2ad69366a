"""The Open Inference Protocol, version 2, over REST: the routes under /v2, for clients that speak it already."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from noria.scenarios.base import Row, Scenario
from noria.serving.body import parse_object
from noria.serving.live import Live
from noria.serving.plain_route import PlainRoute
from noria.serving.predict import refuse_more_rows, row_of
from noria.serving.predictor import Predictor
from noria.serving.reading import InTime, Read
from noria.serving.refusal import PROTOCOL_PATH, Refusal, first_error
from noria.serving.tensors import Column, Tensor, num_rows, rows_of, tensors_of

_PLATFORM = "onnx_onnxruntime"
_MODEL = "/models/{name}"
_VERSIONED = _MODEL + "/versions/{version}"
_ROWS = [-1]
_MOST_TENSORS = 1_000


_Name = Annotated[str, Field(max_length=1_000)]  # a bound makes pydantic refuse what is no Unicode, too


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Input(_Strict):
    name: _Name
    shape: list[int] = Field(fail_fast=True)  # not an error for each of a million elements
    datatype: _Name
    data: list[object]


class _Output(_Strict):
    name: _Name


class _Inference(_Strict):
    """A body; what else the protocol allows in it (`parameters`) changes nothing here."""

    id: _Name | None = None
    inputs: list[_Input] = Field(min_length=1, max_length=_MOST_TENSORS, fail_fast=True)
    outputs: list[_Output] | None = Field(default=None, max_length=_MOST_TENSORS, fail_fast=True)


@dataclass(frozen=True)
class _Given:
    """The validated requests, the client's id of them, and which outputs it wants."""

    rows: Sequence[Row]
    id: str | None
    outputs: Sequence[Tensor]


def inference_protocol(lives: Mapping[str, Live], *, max_rows: int, is_ready: Callable[[], bool]) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix=PROTOCOL_PATH, tags=["Open Inference Protocol v2"], responses=_errors())
    _add_server(router, is_ready)
    _add_models(router, lives, is_ready)
    read = partial(_read, max_rows=max_rows)

    async def infer(request: Request) -> JSONResponse:
        """Answer the rows of the tensors; with a version in the path, by this version or not at all."""
        live, predictor = _find(lives, **request.path_params)
        return await _infer(request, live, predictor if "version" in request.path_params else None, read=read)

    for path in (_MODEL, _VERSIONED):
        router.add_api_route(
            path + "/infer",
            infer,
            methods=["POST"],
            openapi_extra=_documentation(lives, path),
            route_class_override=PlainRoute,
        )
    return router


def _add_server(router: APIRouter, is_ready: Callable[[], bool]) -> None:
    @router.get("")
    @router.get("/", include_in_schema=False)
    async def server() -> Mapping[str, object]:
        """What serves."""
        return {"name": "noria", "version": version("noria"), "extensions": []}

    @router.get("/health/live")
    async def is_live() -> Mapping[str, bool]:
        """The process lives."""
        return {"live": True}

    @router.get("/health/ready")
    async def server_is_ready() -> JSONResponse:
        """All models answer."""
        return JSONResponse({"live": True, "ready": is_ready()}, status_code=200 if is_ready() else 503)


def _add_models(router: APIRouter, lives: Mapping[str, Live], is_ready: Callable[[], bool]) -> None:
    def metadata(live: Live, predictor: Predictor) -> Mapping[str, object]:
        scenario = predictor.bundle.scenario
        return {
            "name": live.name,
            "versions": [predictor.version],
            "platform": _PLATFORM,
            "inputs": [_described(tensor) for tensor in tensors_of(scenario.request)],
            "outputs": [_described(tensor) for tensor in tensors_of(scenario.response)],
        }

    def readiness(live: Live) -> JSONResponse:
        return JSONResponse({"name": live.name, "ready": is_ready()}, status_code=200 if is_ready() else 503)

    @router.get(_MODEL)
    async def model(name: str) -> Mapping[str, object]:
        """The model's tensors: a field each; BYTES hold text, or JSON where the field is no text."""
        return metadata(*_find(lives, name))

    @router.get(_VERSIONED)
    async def model_version(name: str, version: str) -> Mapping[str, object]:
        """The same, of this version or of none."""
        return metadata(*_find(lives, name, version))

    @router.get(_MODEL + "/ready")
    async def model_is_ready(name: str) -> JSONResponse:
        """The model answers."""
        return readiness(_find(lives, name)[0])

    @router.get(_VERSIONED + "/ready")
    async def version_is_ready(name: str, version: str) -> JSONResponse:
        """This version answers."""
        return readiness(_find(lives, name, version)[0])


def _find(lives: Mapping[str, Live], name: str, version: str | None = None) -> tuple[Live, Predictor]:
    """The model, and the predictor that is pinned for this request."""
    live = lives.get(name)
    if live is None:
        raise Refusal(404, "no model has this name", expected=f"one of {', '.join(lives)}")
    predictor = live.predictor
    if version not in (None, predictor.version):
        raise Refusal(404, f"`{name}` does not serve this version", expected=predictor.version)
    return live, predictor


async def _infer(request: Request, live: Live, only: Predictor | None, *, read: Read[_Given]) -> JSONResponse:
    done = await live.answer(request, read=read, only=only)
    given, answers = done.given, done.answers
    said = {"model_name": live.name, "model_version": done.version}
    if given.id is not None:
        said["id"] = given.id
    outputs = [
        _described(tensor) | {"shape": [len(answers)], "data": [tensor.element_of(a[tensor.name]) for a in answers]}
        for tensor in given.outputs
    ]
    return JSONResponse({**said, "outputs": outputs})


def _read(body: bytes, scenario: Scenario, in_time: InTime, *, max_rows: int) -> _Given:
    try:
        asked = _Inference.model_validate(parse_object(body))
    except ValidationError as error:
        place, said = first_error(error)
        raise Refusal(400, f"`{place}`: {said}", expected="an inference request of the protocol") from error
    columns = [Column(put.name, put.datatype, put.shape, put.data) for put in asked.inputs]
    refuse_more_rows(num_rows(columns), max_rows, where="inputs")
    rows = rows_of(columns, tensors_of(scenario.request))
    known = {tensor.name: tensor for tensor in tensors_of(scenario.response)}
    wanted = [output.name for output in asked.outputs or ()] or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise Refusal(400, f"output `{unknown[0][:100]}`: the model has none of this name", expected=", ".join(known))
    validated = (row_of(row, scenario, f"row {i}") for i, row in enumerate(rows))
    return _Given(list(in_time(validated)), asked.id, [known[name] for name in wanted])


def _described(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": _ROWS}


def _documentation(lives: Mapping[str, Live], path: str) -> dict[str, object]:
    own = _Inference.model_json_schema()
    schema: object = {key: value for key, value in own.items() if key != "$defs"}
    for name, inner in own["$defs"].items():  # so that a reader has nothing to resolve
        schema = _inlined(schema, f"#/$defs/{name}", inner)
    examples = {name: {"value": _example(live.predictor.bundle.scenario)} for name, live in lives.items()}
    content = {"application/json": {"schema": schema, "examples": examples}}
    names = re.findall(r"{(\w+)}", path)
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def _inlined(value: object, reference: str, schema: object) -> object:
    """The value with what the reference names in its place."""
    if isinstance(value, dict):
        if value.get("$ref") == reference:
            return schema
        return {key: _inlined(inner, reference, schema) for key, inner in value.items()}
    return [_inlined(inner, reference, schema) for inner in value] if isinstance(value, list) else value


def _example(scenario: Scenario) -> Mapping[str, object]:
    tensors = {tensor.name: tensor for tensor in tensors_of(scenario.request)}
    return {
        "inputs": [
            {"name": name, "datatype": tensors[name].datatype, "shape": [1], "data": [tensors[name].element_of(value)]}
            for name, value in scenario.example.items()
        ]
    }


def _errors() -> dict[int | str, dict[str, object]]:
    schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    told = {"description": "what is wrong", "content": {"application/json": {"schema": schema}}}
    return {status: dict(told) for status in (400, 401, 404, 408, 413, 422, 429, 500, 503)}
