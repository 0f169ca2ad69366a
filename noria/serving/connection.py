"""A connection as a server can afford it: what uvicorn leaves without bounds has some here, in bytes and in seconds."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from noria.serving.refusal import Refusal, error_fields

if TYPE_CHECKING:
    from starlette.types import ASGIApp
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 65_536
"""Of the request line and the headers."""
HEAD_S = 10.0
"""In which they have to come, from the connection on or from their first byte on."""
LINGER_S = 5.0
"""In which a body has to end whose request is answered already."""
UNREAD_S = 30.0
"""How long a client may read nothing of what it is sent."""
_KEEP_ALIVE_S = 75
"""Longer than balancers keep theirs, which would else send a request into a closing connection."""


def uvicorn_config(app: ASGIApp, *, grace_s: int, log_level: str = "warning") -> uvicorn.Config:
    """How uvicorn serves an application: connections with bounds, no web sockets, no log of its own."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level=log_level,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
    )


class Connection(HttpToolsProtocol):
    """HTTP/1.1 for clients that may be hostile.

    How long a body may be and take is up to its route; bounded here is what no route sees: the bytes in front of it,
    what still comes of it once its request is answered, and answers that nobody reads.
    """

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _is_in_head = False
    _is_in_body = False
    _num_head_bytes = 0  # of what the parser has told of
    _num_raw_bytes = 0  # of what came while it told of nothing
    _asked: RequestResponseCycle | None = None  # `cycle` is the latest, which may have to wait for this one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end_in(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_in(None)
        self._end_unread_in(None)
        self._tell_of_the_end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        head = self.headers if self._is_in_head else None
        super().data_received(data)
        if self._is_in_head and self.headers is head:  # a header that goes on and on is told of at its end only
            self._num_raw_bytes += len(data)
            if self._num_raw_bytes > MAX_HEAD_BYTES:
                self.send_400_response("")
        elif self._is_in_head and self._timer is None:
            self._end_in(HEAD_S)

    def on_message_begin(self) -> None:
        self._is_in_head, self._num_head_bytes, self._num_raw_bytes = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head, self._is_in_body = False, True
        self._end_in(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_in_body = False
        self._end_in(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._end_unread_in(UNREAD_S)
        elif self._is_in_body and self.cycle.response_complete:
            self._end_in(LINGER_S)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._end_unread_in(UNREAD_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_unread_in(UNREAD_S)

    def resume_writing(self) -> None:
        self._end_unread_in(None)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What the parser can't read is refused in the words of all other refusals."""
        if max(self._num_head_bytes, self._num_raw_bytes) > MAX_HEAD_BYTES:
            self._refuse(Refusal(431, "the headers are too long", expected=f"at most {MAX_HEAD_BYTES:,} bytes"))
        else:
            self._refuse(Refusal(400, "the bytes are no HTTP", expected="HTTP/1.1"))

    def _count(self, num_bytes: int) -> None:
        self._num_head_bytes += num_bytes
        if self._num_head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the headers are too long")  # the parser stops, and asks for `send_400_response`

    def _end(self) -> None:
        if self._is_in_head:
            self._refuse(Refusal(408, "the headers did not come", expected=f"all of them in {HEAD_S:g} s"))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        asked = self._asked
        if asked is not None and not asked.response_complete:
            is_answer = asked is self.cycle and self._is_in_body and not asked.response_started
            self._tell_of_the_end()
            if not is_answer:  # it would be taken for one
                self.transport.close()
        if self.transport.is_closing():
            return
        body = json.dumps({"error": error_fields(refusal)}).encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[refusal.status] + head + body)
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._asked = cycle
        super()._start_asgi_task(cycle, app)

    def _tell_of_the_end(self) -> None:
        """To whoever is answering: uvicorn tells the latest request alone."""
        if self._asked is not None and not self._asked.response_complete:
            self._asked.disconnected = True
            self._asked.message_event.set()

    def _give_up(self) -> None:
        self._tell_of_the_end()
        self.transport.abort()

    def _end_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end_unread_in(self, seconds: float | None) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._unread = None if seconds is None else self.loop.call_later(seconds, self._give_up)
