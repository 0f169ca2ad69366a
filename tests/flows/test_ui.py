"""What a person sees of a run in the Prefect UI, and from there of its report, in a real browser on a real server."""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest
from playwright.sync_api import expect, sync_playwright
from up_process import up
from workspaces import environment, noria

CHROMIUM = shutil.which("chromium")
NODES = ("input data", "quality check", "clean", "quality check (again)", "train", "optimize", "deploy", "update")
QUIET_BROWSER = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")]


@pytest.fixture
def server(dirty, tmp_path):
    """A Prefect server on a copy of the records that a run kept: (address, path of the database)."""
    home = tmp_path / "prefect"
    shutil.copytree(dirty / ".noria" / "prefect", home)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)],
        env=environment(PREFECT_HOME=str(home), PREFECT_SERVER_UI_API_URL=f"{address}/api"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/health", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.2)
        yield address, home / "prefect.db"
    finally:
        process.terminate()
        process.wait()


def test_a_run_shows_its_nodes_its_learning_curve_its_decision_and_its_report_and_asks_nobody_else(server):
    address, path = server
    with closing(sqlite3.connect(path)) as database:
        (run,) = database.execute("select id from flow_run order by created").fetchone()
        shown = dict(database.execute("select key, id from artifact where key in ('train', 'run', 'report', 'update')"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET_BROWSER)
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/runs/flow-run/{run}")
        page.get_by_text("Task Runs", exact=True).first.click()
        for node in NODES:
            expect(page.get_by_text(node, exact=True).first).to_be_attached(timeout=30_000)
        page.goto(f"{address}/artifacts/artifact/{shown['train']}")
        expect(page.get_by_role("img", name="learning curve")).to_be_visible(timeout=30_000)
        page.goto(f"{address}/artifacts/artifact/{shown['update']}")
        expect(page.get_by_role("cell", name="challenger")).to_be_visible(timeout=30_000)
        page.goto(f"{address}/artifacts/artifact/{shown['run']}")
        expect(page.get_by_role("cell", name="optimize")).to_be_visible(timeout=30_000)
        page.goto(f"{address}/artifacts/artifact/{shown['report']}")
        expect(page.get_by_text("/reports/run/")).to_be_visible(timeout=30_000)  # its server ends with the run
        browser.close()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def artifact(api: str, key: str) -> str:
    """The id of the latest artifact of that key."""
    wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{api}/artifacts/filter", json.dumps(wanted).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)[0]["id"]


def test_from_another_machine_a_run_under_noria_up_is_seen_and_its_link_leads_to_its_report(dirty, tmp_path):
    """The other machine knows this one by its name alone, and listens at none of its ports itself."""
    root = tmp_path / "ws"
    shutil.copytree(dirty, root, symlinks=True)
    name, ours = socket.gethostname(), "127.0.0.2"
    with up(root, "--host", "0.0.0.0") as stack, sync_playwright() as playwright:
        ui = stack.said(r"Prefect UI: (http://\S+)")[1]
        reports = stack.said(r"reports: (http://\S+)")[1]
        assert ui.startswith(f"http://{name}:") and reports.startswith(f"http://{name}:")
        assert noria("run", cwd=root).returncode == 0
        port = ui.rpartition(":")[2]
        shown = artifact(f"http://127.0.0.1:{port}/api", "report")
        rules = f"--host-resolver-rules=MAP {name} {ours}, MAP 127.0.0.1 ~NOTFOUND, MAP 0.0.0.0 ~NOTFOUND"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET_BROWSER, rules])
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.goto(f"{ui}/artifacts/artifact/{shown}")
        link = page.get_by_role("link").filter(has_text=".html")
        expect(link).to_be_visible(timeout=60_000)
        assert link.get_attribute("href").startswith(f"{reports}/dirty/run/")
        with context.expect_page() as opened:
            link.click()
        report = opened.value
        expect(report).to_have_title("dirty: pipeline completed", timeout=30_000)
        expect(report.get_by_role("heading", name="What ran")).to_be_visible()
        bar = report.locator(".bar").first
        expect(bar).to_have_css("position", "absolute")  # its own style holds under the policy,
        assert bar.evaluate("bar => bar.style.getPropertyValue('--from')"), "and what its elements say themselves"
        browser.close()
