"""Servers that hear what is told: a webhook and a mailbox, on loopback, each in a thread of the test."""

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Heard:
    """Where a server listens, and what it was told: (path, body) or (recipients, message)."""

    port: int
    told: list = field(default_factory=list)


@contextmanager
def webhook(*, status: int = 200, slow_s: float = 0.0) -> Iterator[Heard]:
    """Takes what is posted, and answers with `status` after `slow_s`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.told.append((self.path, body))
            time.sleep(slow_s)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with _running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        heard = Heard(server.server_address[1])
        yield heard


@contextmanager
def mailbox() -> Iterator[Heard]:
    """Takes mail, by as much of SMTP (RFC 5321) as a client without extensions speaks."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            recipients: list[str] = []
            self.say("220 mailbox")
            for line in self.rfile:
                command = line.decode().strip()
                verb = command.split(" ", 1)[0].upper()
                if verb == "RCPT":
                    recipients.append(command.partition(":")[2].strip(" <>"))
                if verb == "DATA":
                    self.say("354 go on")
                    heard.told.append((recipients, self.message()))
                self.say("221 bye" if verb == "QUIT" else "250 ok")
                if verb == "QUIT":
                    return

        def message(self):
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            return message_from_bytes(b"".join(lines), policy=policy.default)

        def say(self, text: str):
            self.wfile.write(f"{text}\r\n".encode())

    with _running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as server:
        heard = Heard(server.server_address[1])
        yield heard


def posted(heard: Heard) -> list[dict]:
    """The JSON that was posted, in order."""
    return [json.loads(body) for _, body in heard.told]


@contextmanager
def _running(server):
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
