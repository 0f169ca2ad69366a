"""What every request passes first and last: an id, the guard, the metrics, one line in the log, a shadow.

Where the queue of a client is full, its requests are turned away here: to refuse many must cost little.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from noria.serving.admission import Admission
from noria.serving.guard import Guard
from noria.serving.metrics import Metrics
from noria.serving.refusal import Refusal, refusal_response

access = logging.getLogger("noria.serving.access")

REQUEST_ID = "X-Request-ID"
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_NO_ROUTE = "none"


class Doorway:
    """ASGI middleware: gives each request its id, asks the guard, counts, and logs without payloads."""

    def __init__(
        self, app: ASGIApp, *, guard: Guard, admissions: Mapping[str, Admission], metrics: Metrics, logs: bool
    ) -> None:
        """`admissions` by path."""
        self._app = app
        self._guard = guard
        self._admissions = admissions
        self._metrics = metrics
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id, client = _id_of(headers), self._guard.client(headers, scope.get("client"))
        scope.setdefault("state", {}).update(request_id=request_id, client=client)
        status = 500  # what is sent when the application fails before it has begun to answer

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            refusal = self._guard.refusal(scope["path"], headers) or self._no_room(scope["path"], client)
            if refusal is None:
                await self._app(scope, receive, send_with_id)
            else:
                self._metrics.refused(refusal.reason)
                answer = refusal_response(refusal, path=scope["path"], request_id=request_id)
                await answer(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = scope["path"] if scope["path"] in self._admissions else _route_of(scope)
            self._metrics.requested(route=route, status=status, seconds=seconds)
            if self._logs:
                _log(scope, request_id=request_id, route=route, status=status, seconds=seconds)
            if (afterwards := scope["state"].get("afterwards")) is not None:
                afterwards()

    def _no_room(self, path: str, client: str) -> Refusal | None:
        admission = self._admissions.get(path)
        return None if admission is None else admission.refusal(client)


def _id_of(headers: Headers) -> str:
    """The client's own id where it is fit for a log, or a new one."""
    given = headers.get(REQUEST_ID, "")
    if _SANE_ID.fullmatch(given):
        return given
    # not uuid4: asking the kernel lets go of the interpreter, and to have it again takes up to a switch interval
    return f"{random.getrandbits(128):032x}"


def _route_of(scope: Scope) -> str:
    """The route as it was declared: never what the client wrote."""
    return getattr(scope.get("route"), "path", _NO_ROUTE)


def _log(scope: Scope, *, request_id: str, route: str, status: int, seconds: float) -> None:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": request_id,
        "method": scope["method"] if scope["method"].isalpha() else "none",
        "route": route,
        "status": status,
        "ms": round(1_000 * seconds, 2),
        **scope["state"].get("told", {}),
    }
    access.info("%s", json.dumps(line, ensure_ascii=False))
