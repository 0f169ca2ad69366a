"""A proxy before a real S3 server, on loopback, that does to requests what networks and servers do.

It is told what to do to the requests to come, one fault each; without a fault they pass unchanged.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from s3_server import S3Server

SLOW_S = 3.0
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


class Faulty:
    """What a test says to the proxy, and what it has seen."""

    def __init__(self, server: S3Server, url: str) -> None:
        self.server = server
        self.url = url
        self.seen: list[tuple[str, str]] = []
        """(method, path) of every request."""
        self.strips: tuple[str, ...] = ()
        """Headers that no request keeps, as before a store that knows nothing of them."""
        self._faults: list[str] = []
        self._lock = threading.Lock()
        self._only: Callable[[str, str], bool] = lambda method, path: True

    def will(self, *faults: str, only: Callable[[str, str], bool] = lambda method, path: True) -> None:
        """Do these to the next requests that `only` is true of: a status, or "reset", "unanswered" …"""
        self._faults, self._only = list(faults), only

    @property
    def is_done(self) -> bool:
        """Whether every fault has happened."""
        return not self._faults

    def take(self, method: str, path: str) -> str:
        """The fault of this request, or nothing."""
        with self._lock:
            self.seen.append((method, path))
            return self._faults.pop(0) if self._faults and self._only(method, path) else ""


@contextmanager
def faulty(server: S3Server) -> Iterator[Faulty]:
    """A proxy before `server` for as long as the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as listening:
        listening.daemon_threads = True
        listening.faulty = Faulty(server, f"http://127.0.0.1:{listening.server_port}")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.faulty
        listening.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.faulty.take(self.command, self.path)
        if fault.isdecimal():
            self._answer(int(fault), {}, b"")
            return
        if fault == "slow":
            time.sleep(SLOW_S)
        if fault == "reset":
            self._reset()
            return
        status, headers, answer = self._ask(body)
        if fault == "unanswered":  # it was done, and nobody is told
            self._reset()
        elif fault == "cut":
            self._answer(status, headers, answer, keep=len(answer) // 2)
            self._reset()
        elif fault == "corrupt":
            self._answer(status, headers, bytes([answer[0] ^ 1]) + answer[1:])
        else:
            self._answer(status, headers, answer)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        faulty = self.server.faulty
        upstream = urlsplit(faulty.server.endpoint)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in faulty.strips}
        if len(headers) < len(self.headers):
            headers = _signed_anew(self.command, f"{faulty.server.endpoint}{self.path}", headers, body, faulty.server)
        connection = http.client.HTTPConnection(upstream.hostname, upstream.port, timeout=60)
        try:
            connection.request(self.command, self.path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, keep: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body[:keep])

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def _signed_anew(method: str, url: str, headers: dict[str, str], body: bytes, server: S3Server) -> dict[str, str]:
    kept = {name: value for name, value in headers.items() if name.lower() not in ("authorization", "x-amz-date")}
    kept["Host"] = urlsplit(url).netloc
    request = AWSRequest(method, url, headers=kept, data=body)
    S3SigV4Auth(Credentials(server.access_key, server.secret_key), "s3", "us-east-1").add_auth(request)
    return dict(request.headers.items())
