"""Runs the application."""

from __future__ import annotations

import logging
import socket

import uvicorn
from fastapi import FastAPI

from noria.config import ServeConfig
from noria.errors import BundleError

logger = logging.getLogger(__name__)

_GRACE_S = 30
_BACKLOG = 1024


def listen(config: ServeConfig) -> socket.socket:
    """A socket that listens on the configured address; port 0 takes a free one.

    Whoever connects from now on waits for the application instead of being refused.

    Raises
    ------
    BundleError
        When the address is taken or may not be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET, socket.SOCK_STREAM)
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


def serve_app(app: FastAPI, listener: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM; those under way have half a minute to finish."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S)
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
