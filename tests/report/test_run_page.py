"""The page of a run shows hostile data as it is, asks nobody for anything, and fits a phone."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import sync_playwright

from noria.artifacts import write_artifact
from noria.data.verdict import Judgement, Verdict, write_verdict
from noria.report.page import run_page, write_report
from noria.report.parts import spans, tables_of_markdown
from noria.report.run import ReportedRun, Step
from noria.workspace import Workspace

CHROMIUM = shutil.which("chromium")
HOSTILE = "</td></table><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">`|{{7*7}}"
BEGUN = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
RUN = ReportedRun(
    "0f" * 16,
    "pipeline",
    "failed",
    BEGUN,
    BEGUN + timedelta(seconds=9),
    url="javascript:alert(1)",
    error=f"split: {HOSTILE} \udcff",
    steps=(Step("ingest", "cached", BEGUN, 1.0, 0.0), Step("split", "failed", BEGUN + timedelta(seconds=2), 7.0, 6.5)),
)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """What a hostile source leaves behind, as far as the gate and an update come with it."""
    params = {"name": "reviews", "scenario": "text-classification", "source": {"path": "x"}}
    (tmp_path / "params.yaml").write_text(json.dumps(params))  # JSON is YAML
    workspace = Workspace.at(tmp_path)
    sample = {"id": "a", "origin": f"{HOSTILE}:1", "text": HOSTILE * 20, "label": "neg"}
    judgement = Judgement(HOSTILE, "rows", "text", HOSTILE, "", False, HOSTILE, None, 9, 3, samples=(sample,))
    with write_artifact(workspace.quality("check"), kind="verdict") as draft:
        write_verdict(draft.path, Verdict(9, (judgement,)))
    with write_artifact(workspace.arrivals, kind="arrivals") as draft:
        said = {"rows": 4, "refused": {HOSTILE: 2}, "right": 5, "wrong": 6}
        draft.facts |= {"objects_new": 2, "objects_refused": 1, "rows": 90, "feedback": said}
        batch = {"batch": HOSTILE, "objects": [HOSTILE], "rows": 90, "quarantined": 1, "passed": False, "time": "now"}
        (draft.path / "batches.json").write_text(json.dumps([{**batch, "reasons": [HOSTILE]}]))
    with write_artifact(workspace.monitoring, kind="monitoring") as draft:
        feature = {"name": HOSTILE, "kind": "number", "statistic": "psi", "value": 0.4, "p_value": 0.001, "rows": 90}
        metric = {"name": "accuracy", "value": 0.8, "low": 0.7, "high": 0.9, "baseline": 0.9, "drop": 0.1}
        found = {"version": "v", "time": "now", "rows": 90, "metric": metric}
        found["feedback"] = {"right": 5, "wrong": 6, "agreement": {"value": 0.4545, "low": 0.2, "high": 0.7}}
        features = [{**feature, "threshold": 0.2, "drifted": True, "text": HOSTILE}]
        (draft.path / "monitoring.json").write_text(json.dumps({**found, "features": features}))
    with write_artifact(workspace.decision, kind="decision") as draft:
        trigger = {"name": "drift", "value": None, "threshold": 0.2, "fired": True, "text": HOSTILE}
        decision = {"action": "retrain", "reasons": [HOSTILE], "triggers": [trigger], "time": "now", "version": "v"}
        (draft.path / "decision.json").write_text(json.dumps(decision))
    return workspace


def test_every_part_of_an_update_is_told_and_what_this_run_did_not_reach_is_said(workspace):
    page = run_page(workspace, RUN)
    for title in ("Arrivals", "Drift", "Feedback", "Decision", "Quality check"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("Of an earlier run") == 5
    assert "train again" in page and "11 answers were judged" in page and "45.5% are right" in page
    assert "javascript:alert" not in page and "<script" not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_hostile_data_stay_text_nothing_is_fetched_and_the_page_is_as_wide_as_the_screen(workspace, width, scheme):
    path = write_report(workspace, RUN)
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.title() == "reviews: pipeline failed"
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert HOSTILE in page.locator("pre.error").text_content()
        assert page.locator("section").count() == 8
        browser.close()
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


def test_pages_are_kept_for_twenty_runs(workspace):
    for day in range(25):
        begun = BEGUN + timedelta(days=day)
        last = write_report(workspace, ReportedRun(f"run-{day:04}", "pipeline", "completed", begun))
    kept = sorted(path.name for path in workspace.run_reports.iterdir())
    assert len(kept) == 21 and kept[-1] == "index.html"
    assert (workspace.run_reports / "index.html").read_text() == last.read_text()


def test_intervals_share_a_scale_that_holds_zero():
    worse, better = spans([(-1.0, -2.0, -0.5), (1.0, 0.5, 2.0)], around_zero=True)
    assert worse.zero == better.zero == pytest.approx(0.5)
    assert worse.low < worse.value < worse.high < worse.zero < better.low < better.value < better.high


def test_tables_of_markdown_are_read_with_their_escapes():
    (table,) = tables_of_markdown("words\n\n| a | b |\n|---|---|\n| `x\\|y` | **1** |\n")
    assert (table.header, table.rows) == (("a", "b"), (("x|y", "1"),))


def test_a_row_of_markdown_that_is_longer_than_its_header_takes_no_page_away(workspace):
    workspace.evaluation.mkdir(parents=True)
    values = {"rows": 9, "accuracy": 0.5, "accuracy_interval": {"low": 0.4, "high": 0.6}, "slices": {}}
    (workspace.evaluation / "metrics.json").write_text(json.dumps(values))
    (workspace.evaluation / "kinds.md").write_text("| kind | rows |\n|---|---|\n| a|b | 9 |\n")
    assert "<h2>Evaluation</h2>" in run_page(workspace, RUN)
