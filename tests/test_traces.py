"""A run is one trace at a real OTLP/HTTP collector: the run, its nodes, and the processes of its stages."""

import gzip
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import workspaces
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from noria import traces


@pytest.fixture
def collector():
    """(its URL, the spans that it was sent)."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()
    thread.join()


def test_nobody_is_told_and_nothing_imported_without_a_collector():
    code = "import sys; from noria.traces import span\nwith span('a') as s: s.note('b', 1); s.fail('c')\n"
    code += "assert not any(name.startswith('opentelemetry') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": ""})


def test_a_span_belongs_to_the_one_in_the_environment_and_one_that_raises_has_failed(collector, monkeypatch):
    url, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv(traces.PARENT, f"00-{'ab' * 16}-{'cd' * 8}-01")
    with pytest.raises(KeyError), traces.span("outer"), traces.span("inner", attributes={"noria.stage": "train"}):
        raise KeyError("x")
    assert os.environ[traces.PARENT].endswith(f"{'cd' * 8}-01")
    traces._provider().force_flush()
    inner, outer = spans
    assert outer.trace_id == inner.trace_id == bytes.fromhex("ab" * 16)
    assert (outer.parent_span_id, inner.parent_span_id) == (bytes.fromhex("cd" * 8), outer.span_id)
    assert inner.status.code == Status.STATUS_CODE_ERROR
    assert {each.key: each.value.string_value for each in inner.attributes} == {"noria.stage": "train"}
    traces._provider.cache_clear()


@pytest.mark.slow
def test_a_run_is_one_trace_over_all_its_processes(collector, dirty):
    url, spans = collector
    root = dirty.parent / "traced"  # as far from the code as the first
    shutil.copytree(dirty, root, symlinks=True)
    try:
        done = workspaces.noria("run", cwd=root, OTEL_EXPORTER_OTLP_ENDPOINT=url)
        assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(root)
    by_name = {span.name: span for span in spans}
    assert len({span.trace_id for span in spans}) == 1
    run, deploy, process = by_name["pipeline"], by_name["deploy"], by_name["process deploy"]
    assert not run.parent_span_id
    assert (deploy.parent_span_id, process.parent_span_id) == (run.span_id, deploy.span_id)
    states = {
        span.name: each.value.string_value for span in spans for each in span.attributes if each.key == "noria.state"
    }
    assert (states["train"], states["update"]) == ("cached", "ran")
    assert "process train" not in by_name
