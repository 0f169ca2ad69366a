"""A route that FastAPI documents and does not handle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class PlainRoute(APIRoute):
    """Its endpoint takes a request and gives a response, both as they are.

    What FastAPI does for an endpoint, solving its dependencies and closing them, takes as long as
    everything else that the event loop does for a request.
    """

    def __init__(self, path: str, endpoint: Endpoint, **settings: Any) -> None:  # noqa: ANN401 - FastAPI's own
        super().__init__(path, endpoint, **settings)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = answer
