"""`noria reports` as a process: it shows the pages of its workspaces and nothing else, to who calls it by its name."""

import json
import os
import re
import signal
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest
from workspaces import environment, noria, noria_command

from noria.errors import ConfigError
from noria.report.links import REPORTS_URL, link_to
from noria.report.page import write_report
from noria.report.run import ReportedRun
from noria.workspace import Workspace
from tasks.runs import Run, remember_run

RUN = "0f" * 16
BEGUN = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def make_workspace(root: Path, name: str) -> Workspace:
    """One whose last run failed, and whose owner keeps a secret."""
    (root / "reports" / "evaluation").mkdir(parents=True)
    params = {"name": name, "scenario": "text-classification", "source": {"path": "x"}}
    (root / "params.yaml").write_text(json.dumps(params))  # JSON is YAML
    for place in (root / "secret.html", root / "reports" / "secret.html", root / "reports/evaluation/secret.html"):
        place.write_text("SECRET")
    workspace = Workspace.at(root)
    ended = BEGUN + timedelta(seconds=9)
    write_report(workspace, ReportedRun(RUN, "pipeline", "failed", BEGUN, ended, error="it was too dark"))
    workspace.scratch.mkdir()
    remember_run(workspace, Run(RUN, "pipeline", BEGUN.isoformat(), state="failed", ended=ended.isoformat()))
    return workspace


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory) -> list[Workspace]:
    """Two that are shown, with links and files in their directories of pages that lead nowhere, and one that is not."""
    root = tmp_path_factory.mktemp("shown")
    reviews, orders, _ = (make_workspace(root / name, name) for name in ("reviews", "orders", "hidden"))
    pages = reviews.run_reports
    (pages / "out.html").symlink_to(root / "reviews" / "secret.html")
    (pages / "circle.html").symlink_to(pages / "circle.html")
    (pages / "inside.html").symlink_to(pages / "index.html")
    (pages / "directory.html").mkdir()
    (pages / "draft.part").write_text("SECRET")
    os.mkfifo(pages / "pipe.html")
    reviews.tuning_report.mkdir()
    for name, text in (("index.html", "<p>a search</p>"), ("params.diff", "+ lr: 1"), ("tuning.json", "{}")):
        (reviews.tuning_report / name).write_text(text)
    return [reviews, orders]


@contextmanager
def shown(*arguments: str, **env: str):
    """The port of `noria reports`, which must end when it is told to."""
    command = noria_command("reports", "--port", "0", *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(**env)) as process:
        try:
            yield int(re.search(r"http://[^/]+:(\d+)/", process.stdout.readline())[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in (0, -signal.SIGTERM)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def port(workspaces):
    with shown(*(part for workspace in workspaces for part in ("-C", str(workspace.root)))) as port:
        yield port


def asked(port: int, path: str, method: str = "GET", **headers: str):
    """Status, headers and body of the answer to a path as it stands, dots and all."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


def test_a_report_is_found_from_the_overview_and_shown_under_a_policy_that_runs_nothing(port, workspaces):
    status, headers, overview = asked(port, "/")
    assert status == 200
    path = f"/reviews/run/20261127T030000Z-{RUN[:8]}.html"
    for link in (path, path.replace("reviews", "orders"), "/reviews/tuning/index.html"):
        assert (
            f'href="{link.removeprefix("/")}"' in overview
        )  # also right where a proxy shows us below a path of its own
    assert "hidden" not in overview
    for place in (path, "/reviews/run/", "/reviews/run/index.html", "/reviews/run/inside.html"):
        status, headers, body = asked(port, place)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert body == (workspaces[0].run_reports / "index.html").read_text() and "it was too dark" in body
        assert headers["Content-Security-Policy"] == f"{POLICY}; frame-ancestors 'none'"
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    kinds = {"params.diff": "text/plain; charset=utf-8", "tuning.json": "application/json"}
    assert {name: asked(port, f"/reviews/tuning/{name}")[1]["Content-Type"] for name in kinds} == kinds
    assert asked(port, path, "HEAD")[::2] == (200, "")
    assert {asked(port, path, method)[0] for method in ("POST", "PUT", "DELETE")} == {405}


@pytest.mark.parametrize(
    "path",
    [
        "/reviews/run/../../secret.html",
        "/reviews/run/..%2f..%2fsecret.html",
        "/reviews/run/%2e%2e/secret.html",
        "/reviews/run/..",
        "/reviews/run/.",
        "/reviews/run/%2fetc%2fpasswd",
        "/reviews/run//etc/passwd",
        "/reviews/run/a%00.html",
        f"/reviews/run/{'a' * 5_000}.html",
        "/reviews/run/%ff.html",
        "/reviews/run/out.html",
        "/reviews/run/circle.html",
        "/reviews/run/directory.html",
        "/reviews/run/pipe.html",
        "/reviews/run/draft.part",
        "/reviews/evaluation/secret.html",
        "/reviews/../secret.html",
        "/reviews/.noria/runs.jsonl",
        "/reviews/secret.html/",
        "/orders/tuning/",
        "/hidden/run/",
        "/nobody/run/index.html",
    ],
)
def test_no_path_leads_out_of_the_pages_of_the_workspaces_that_are_named(port, path):
    status, headers, body = asked(port, path)
    assert (status, "SECRET" in body, "root:" in body) == (404, False, False)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.2", "[::2]:80"])
def test_who_calls_it_by_another_name_reads_nothing(port, host):
    for path in ("/", "/metrics", "/reviews/run/"):
        status, _, body = asked(port, path, Host=host)
        assert status == 400 and "reviews" not in body
    assert asked(port, "/healthz", Host=host)[0] == 200


def test_it_knows_its_own_names_those_it_is_given_and_on_all_addresses_any_address(port, workspaces):
    assert asked(port, "/metrics", Host=f"localhost:{port}")[0] == 200
    given = ["-C", str(workspaces[0].root), "--host", "0.0.0.0", "--name", "Reports.Example"]
    with shown(*given, **{REPORTS_URL: "https://pages.example/noria/"}) as other:
        for host in ("reports.example", "pages.example:443", "192.0.2.7:9464", "[2001:db8::7]"):
            assert asked(other, "/reviews/run/", Host=host)[0] == 200
        assert asked(other, "/reviews/run/", Host="evil.example")[0] == 400


def test_a_directory_without_its_slash_leads_to_it_wherever_a_proxy_shows_us(port):
    for asked_for, place in (("/reviews/run", "./run/"), ("/reviews/https:evil.example", "./https:evil.example/")):
        status, headers, _ = asked(port, asked_for)
        assert (status, headers["Location"]) == (307, place)


@pytest.mark.parametrize("url", ["reports.example", "reports.example:9464", "http://[::1/"])
def test_an_address_that_leads_nowhere_is_refused_before_anything_is_shown(workspaces, url):
    done = noria("reports", "--port", "0", cwd=workspaces[0].root, **{REPORTS_URL: url})
    assert done.returncode == ConfigError.exit_code and f"{REPORTS_URL}={url}" in done.stderr


def test_prometheus_reads_the_runs_of_all_workspaces_at_the_same_address(port, workspaces):
    status, headers, body = asked(port, "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=")
    for name in ("reviews", "orders"):
        assert f'noria_runs_total{{flow="pipeline",model="{name}",state="failed"}} 1.0' in body
    printed = noria("reports", "--metrics", "-C", str(workspaces[0].root), cwd=workspaces[0].root)
    assert printed.returncode == 0 and 'model="reviews"' in printed.stdout and "orders" not in printed.stdout


def test_two_models_of_one_name_are_told_apart_before_anything_is_shown(workspaces, tmp_path):
    twin = make_workspace(tmp_path / "twin", "reviews")
    for command in ("reports", "serve"):
        done = noria(command, "-C", str(workspaces[0].root), "-C", str(twin.root), cwd=tmp_path)
        assert done.returncode == ConfigError.exit_code and "two workspaces call their model `reviews`" in done.stderr


def test_a_link_leads_to_where_its_page_is_shown(port, workspaces, monkeypatch):
    page = workspaces[0].run_reports / "index.html"
    monkeypatch.delenv(REPORTS_URL, raising=False)
    assert link_to(workspaces[0], page) is None
    monkeypatch.setenv(REPORTS_URL, f"http://127.0.0.1:{port}/")
    for file in (page, workspaces[0].tuning_report / "params.diff"):
        link = link_to(workspaces[0], file)
        assert asked(port, link.removeprefix(f"http://127.0.0.1:{port}"))[2] == file.read_text()
