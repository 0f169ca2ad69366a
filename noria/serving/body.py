"""A request's body: read within its limits, and given up as soon as nobody waits for the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from noria.serving.admission import Place
from noria.serving.refusal import CLIENT_LEFT, Refusal

_READ_TIMEOUT_S = 30.0
_MOST_NAMES = 1_000


async def read_body(request: Request, place: Place, *, max_bytes: int) -> bytes:
    """The body, refused as soon as it is too long, or too slow."""
    body = bytearray()
    try:
        told = request.headers.get("content-length", "")
        _refuse_longer(int(told) if told.isdecimal() else 0, max_bytes)
        async with asyncio.timeout(_READ_TIMEOUT_S):
            async for chunk in request.stream():
                place.hold(len(chunk))
                body += chunk
                _refuse_longer(len(body), max_bytes)
    except ClientDisconnect as error:
        raise Refusal(CLIENT_LEFT, "the client went away before the body was complete") from error
    except TimeoutError as error:
        raise Refusal(408, "the body did not come", expected=f"all of it in {_READ_TIMEOUT_S:g} s") from error
    place.begin()
    return bytes(body)


def parse_object(body: bytes) -> Mapping[str, object]:
    """JSON's object, and nothing that JSON does not have."""
    values = parse_value(body, where="the body")
    if not isinstance(values, dict):
        raise Refusal(400, "the body is not a JSON object", expected="a JSON object")
    return values


def parse_value(text: bytes, *, where: str) -> object:
    """Any JSON."""
    try:
        return json.loads(text.decode(), parse_constant=_no_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:  # not UTF-8, and nested without end
        raise Refusal(400, f"{where} is not JSON: {error}", expected="JSON in UTF-8") from error


async def unless_gone(receive: Receive, work: asyncio.Future[Any]) -> None:
    """Wait for the work, which is cancelled when the client goes away first."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refusal(CLIENT_LEFT, "the client went away before its answer was there")
    finally:
        gone.cancel()
        work.add_done_callback(lambda work: work.cancelled() or work.exception())  # seen, whatever it is
        work.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refuse_longer(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise Refusal(
            413,
            "the body is too long",
            expected=f"at most {max_bytes:,} bytes",
            next_step="send fewer rows at once, or raise `serve.max_body_bytes`",
        )


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > _MOST_NAMES:  # to say of each of a million that it is not wanted takes gigabytes
        raise ValueError(f"an object has {len(pairs):,} names, and at most {_MOST_NAMES:,} are read")
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number that JSON has")
