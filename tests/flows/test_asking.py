"""What is asked of a Prefect server is asked as Prefect's own client does: with the credentials it wants."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.server import RunningStack, published
from flows.stack import next_runs
from flows.surroundings import ask_prefect
from noria.workspace import Workspace

PAIR = "noria:prefect-secret"
SOON = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
RUN = {"state_name": "Scheduled", "state_type": "SCHEDULED", "expected_start_time": SOON, "flow_id": "f"}


@contextmanager
def guarded_server() -> Iterator[str]:
    """The API of a server that knows one run, and tells it to nobody without the right credentials."""
    wanted = f"Basic {base64.b64encode(PAIR.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            is_known = self.headers["Authorization"] == wanted
            answer = json.dumps([RUN] if "flow_runs" in self.path else [{"name": "evaluate-and-update"}]).encode()
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


@pytest.fixture(autouse=True)
def nobody_s_settings(monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)


def test_the_stack_asks_with_credentials(monkeypatch):
    with guarded_server() as api:
        assert next_runs(api, "reviews", most=1) == []
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", PAIR)
        assert next_runs(api, "reviews", most=1) == [datetime.fromisoformat(SOON)]


def test_a_status_asks_the_server_of_noria_up(monkeypatch, tmp_path):
    workspace = Workspace.at(tmp_path)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", PAIR)
    assert "`noria up` does not run" in ask_prefect(workspace).said
    with guarded_server() as api, published(workspace, RunningStack(api, reports="")):
        found = ask_prefect(workspace)
    assert (found.next_run, found.next_flow, found.said) == (SOON, "evaluate-and-update", "")
