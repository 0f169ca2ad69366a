import gzip
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import workspaces
from pydantic import ValidationError

from noria.config import SourceConfig
from noria.data.ingest import ingest
from noria.data.rows import read_rows
from noria.errors import SourceError
from noria.preflight import check_ready
from noria.workspace import Workspace

SCHEMA = pa.schema([pa.field("text", pa.string()), pa.field("label", pa.string())])
CSV = "text,label\n很好,pos\n很差,neg\n".encode()


class Files(BaseHTTPRequestHandler):
    """Knows no ranges, as Python's own server does not."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
            return
        payload = self.server.files.get(self.path.partition("?")[0])
        self.send_response(404 if payload is None else 200)
        self.send_header("Content-Length", str(len(payload or b"")))
        if self.server.tag:
            self.send_header("ETag", f'"{self.server.tag}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(payload or b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: object) -> None:
        del arguments


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Files)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        self.tag = "1"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    both = (Server(), Server())
    for server in both:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield both
    for server in both:
        server.shutdown()
        server.server_close()


def read(base, url, hosts):
    source = SourceConfig(path=url, hosts=hosts)
    return ingest(source, schema=SCHEMA, target="label", base=base, raw=base / "raw", quarantine=base / "ingest")


def texts(artifact):
    return [row["text"] for row in read_rows(artifact.path)]


def parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["很好", "很差"], "label": ["pos", "neg"]}), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "payload"),
    [("rows.csv", CSV), ("rows.csv.gz", gzip.compress(CSV, mtime=0)), ("rows.parquet", parquet())],
)
def test_a_file_of_a_host_that_is_named_is_read_also_from_a_server_without_ranges(servers, tmp_path, name, payload):
    server, _ = servers
    server.files[f"/{name}"] = payload
    artifact = read(tmp_path, f"http://{server.host}/{name}?version=3", [server.host])
    assert texts(artifact) == ["很好", "很差"]
    assert {row["origin"].partition(":")[0] for row in read_rows(artifact.path)} == {name}


def test_a_host_without_a_port_stands_for_all_of_its_ports(servers, tmp_path):
    server, _ = servers
    server.files["/rows.csv"] = CSV
    assert read(tmp_path, f"http://{server.host}/rows.csv", ["127.0.0.1"]).counts["rows"] == 2


@pytest.mark.parametrize(
    ("url", "hosts", "told"),
    [
        ("http://example.org/rows.csv", (), r"add `hosts: \[example.org\]`"),
        ("https://example.org/rows.csv", ("example.com",), "does not name the host"),
        ("http://example.org.evil.test/rows.csv", ("example.org",), "does not name the host"),
        ("http://example.org@evil.test/rows.csv", ("example.org",), "no name and password"),
        ("http://me:secret@example.org/rows.csv", ("example.org",), "no name and password"),
        ("simplecache::http://example.org/rows.csv", ("example.org",), "must begin with http"),
        ("HTTP://example.org/rows.csv", (), "must begin with http"),
        ("http://example.org:99999/rows.csv", ("example.org",), "no URL"),
    ],
)
def test_a_host_that_is_not_named_is_never_asked(url, hosts, told):
    with pytest.raises(ValidationError, match=told):
        SourceConfig(path=url, hosts=hosts)


def test_a_redirect_is_followed_to_a_host_that_is_named_and_to_no_other(servers, tmp_path):
    server, other = servers
    other.files["/rows.csv"] = CSV
    server.redirects["/rows.csv"] = f"http://{other.host}/rows.csv"
    assert read(tmp_path / "a", f"http://{server.host}/rows.csv", [server.host, other.host]).counts["rows"] == 2
    other.asked.clear()
    with pytest.raises(SourceError, match="redirects to") as caught:
        read(tmp_path / "b", f"http://{server.host}/rows.csv", [server.host])
    assert "source.hosts" in str(caught.value) and other.asked == []


@pytest.mark.parametrize("location", ["http://a\\\\@b/", "http://[::1/", "file:///etc/passwd", ""])
def test_a_redirect_to_nowhere_is_refused(servers, tmp_path, location):
    server, _ = servers
    server.redirects["/rows.csv"] = location
    with pytest.raises(SourceError):
        read(tmp_path, f"http://{server.host}/rows.csv", [server.host])


def test_a_table_over_http_that_names_files_says_that_it_must_hold_them(servers, tmp_path):
    server, _ = servers
    server.files["/rows.csv"] = b"image,label\na.png,a\n"
    source = SourceConfig(path=f"http://{server.host}/rows.csv?v=1", hosts=(server.host,))
    schema = pa.schema([pa.field("image", pa.binary()), pa.field("label", pa.string())])
    with pytest.raises(SourceError, match="Parquet with the bytes"):
        ingest(source, schema=schema, target="label", base=tmp_path, raw=tmp_path / "raw", quarantine=tmp_path / "no")


def test_a_run_does_not_start_when_a_redirect_leads_elsewhere(servers, tmp_path):
    server, other = servers
    root = workspaces.make_workspace(tmp_path / "workspace", workspaces.good_rows(20))
    server.redirects["/rows.csv"] = f"http://{other.host}/rows.csv"
    workspaces.change_params(root, {"source": {"path": f"http://{server.host}/rows.csv", "hosts": [server.host]}})
    with pytest.raises(SourceError, match="redirects to"):
        check_ready(Workspace.at(root))
    assert other.asked == []


def test_what_is_not_there_or_does_not_answer_says_so(servers, tmp_path):
    server, other = servers
    with pytest.raises(SourceError, match="404"):
        read(tmp_path / "a", f"http://{server.host}/rows.csv", [server.host])
    other.shutdown()
    other.server_close()
    with pytest.raises(SourceError, match=r"[Cc]onnect"):
        read(tmp_path / "b", f"http://{other.host}/rows.csv", [other.host])
    with pytest.raises(SourceError, match="does not say what the file is"):
        read(tmp_path / "c", f"http://{server.host}/rows/", [server.host])


@pytest.mark.slow
def test_dvc_reads_a_url_again_only_when_it_changed(servers, tmp_path):
    server, _ = servers
    root = workspaces.make_workspace(tmp_path / "workspace", workspaces.good_rows(300))
    server.files["/rows.csv"] = (root / "rows.csv").read_bytes()
    workspaces.change_params(root, {"source": {"path": f"http://{server.host}/rows.csv", "hosts": [server.host]}})
    for tag, runs in (("1", True), ("1", False), ("2", True)):
        server.tag = tag
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "ingest"],
            cwd=root,
            env=workspaces.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("Running stage 'ingest'" in done.stdout) is runs
