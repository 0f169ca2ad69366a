"""What a person sees of a run in the Prefect UI, in a real browser on a real server."""

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
from workspaces import environment

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


def test_a_run_shows_its_nodes_its_learning_curve_its_decision_and_its_report(server):
    address, path = server
    with closing(sqlite3.connect(path)) as database:
        (run,) = database.execute("select id from flow_run order by created").fetchone()
        shown = dict(database.execute("select key, id from artifact where key in ('train', 'run', 'report', 'update')"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET_BROWSER)
        page = browser.new_page()
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
        expect(page.get_by_role("link").filter(has_text="/reports/run/")).to_be_visible(timeout=30_000)
        browser.close()
