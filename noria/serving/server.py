"""Runs the application."""

from __future__ import annotations

import gc
import logging
import math
import socket
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from noria.config import ServeConfig
from noria.errors import BundleError
from noria.serving.app import Draining
from noria.serving.connection import Connection

logger = logging.getLogger(__name__)

_GRACE_S = 30
_KEEP_ALIVE_S = 75  # longer than balancers keep theirs, which would else send a request into a closing connection
_BACKLOG = 1024
_SWITCH_S = 0.0005


def listen(config: ServeConfig) -> socket.socket:
    """A socket that listens on the configured address; port 0 takes a free one.

    Whoever connects from now on waits for the application instead of being refused.

    Raises
    ------
    BundleError
        When the address is taken or may not be used.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio turns Nagle's delay off only where a socket says that it is TCP: otherwise an answer waits 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:  # a port beyond 65535 overflows
        listener.close()
        raise BundleError(
            f"the server can't listen: {getattr(error, 'strerror', None) or error}",
            where=f"{config.host}:{config.port}",
            expected="an address of this machine and a free port",
            next_step="`noria serve --port 0` takes a free one",
        ) from error
    return listener


class _Server(uvicorn.Server):
    """On the first signal it drains: /readyz says so while requests are still taken. Then it stops, as uvicorn does."""

    def __init__(self, config: uvicorn.Config, *, draining: Draining, drain_s: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._drain_s = drain_s
        self._stop_at_s = math.inf
        self._signal: tuple[int, FrameType | None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; another signal while that lasts ends it."""
        if self._draining.is_draining or not self._drain_s:
            self._stop(sig, frame)
            return
        self._draining.begin()
        self._signal = (sig, frame)
        self._stop_at_s = time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self._signal is not None and time.monotonic() >= self._stop_at_s:
            self._stop(*self._signal)
        return await super().on_tick(counter)

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        self._signal = None
        self._draining.begin()
        self._draining.refuse()
        super().handle_exit(sig, frame)


def uvicorn_config(app: FastAPI, *, grace_s: int, log_level: str = "warning") -> uvicorn.Config:
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


def serve_app(app: FastAPI, listener: socket.socket, *, drain_s: float = 0.0) -> None:
    """Answer requests until SIGINT or SIGTERM, and `drain_s` more; those under way have half a minute to finish."""
    config = uvicorn_config(app, grace_s=_GRACE_S)
    # The loop must not keep the threads that compute waiting for the interpreter, least of all while it refuses many:
    # by default each of their steps may cost 5 ms.
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()  # what is loaded stays: no collection walks over all of it again while requests wait
    server = _Server(config, draining=app.state.draining, drain_s=drain_s)
    server.run(sockets=[listener])
