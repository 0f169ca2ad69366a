"""What is asked of a Prefect server that is guarded, or that `noria up` runs."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.server import published_api
from flows.stack import next_runs
from flows.surroundings import ask_prefect
from noria.workspace import Workspace

GIVEN = "admin:s3cret"
RUN = {
    "expected_start_time": "2026-11-27T17:17:00+00:00",
    "state_name": "Scheduled",
    "state_type": "SCHEDULED",
    "flow_id": "f",
    "name": "evaluate-and-update",
}


class Guarded(BaseHTTPRequestHandler):
    """Prefect's API as far as schedules go, for who says who he is."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        is_known = self.headers.get("Authorization") == f"Basic {base64.b64encode(GIVEN.encode()).decode()}"
        self.send_response(200 if is_known else 401)
        self.end_headers()
        self.wfile.write(json.dumps([RUN]).encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_a_guarded_server_is_told_who_asks(api, monkeypatch):
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    assert next_runs(api, "reviews", most=1) == []
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", GIVEN)
    (found,) = next_runs(api, "reviews", most=1)
    assert found.isoformat() == "2026-11-27T17:17:00+00:00"


def test_the_schedule_of_a_stack_that_runs_here_is_known_without_a_variable(api, monkeypatch, tmp_path):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", GIVEN)
    workspace = Workspace.at(tmp_path)
    assert "nothing is scheduled" in ask_prefect(workspace).said
    with published_api(workspace, api):
        assert ask_prefect(workspace).next_flow == "evaluate-and-update"
