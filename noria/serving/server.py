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
from noria.serving import address
from noria.serving.app import Draining
from noria.serving.connection import uvicorn_config

logger = logging.getLogger(__name__)

_GRACE_S = 30
_SWITCH_S = 0.0005


def listen(config: ServeConfig) -> socket.socket:
    """A socket that listens on the configured address (`noria.serving.address.listen`)."""
    return address.listen(config.host, config.port, command="noria serve")


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
