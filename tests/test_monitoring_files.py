"""Dashboard, scrape configuration and alarms speak of metrics that exist, and of runbooks that are written."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tiny
import yaml
from fastapi.testclient import TestClient
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from flows.metrics import runs_metrics
from noria.artifacts import Ledger, write_artifact
from noria.config import NotifyConfig, ServeConfig
from noria.serving.app import create_app
from noria.serving.bundle import open_bundle, version_of
from noria.serving.predictor import Predictor
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.deploy import deploy
from tasks.history import Attempt, remember
from tasks.runs import Run, remember_run
from tasks.update import update

INFRA = Path(__file__).parent.parent / "infra"
ALERTS = yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((INFRA / "grafana" / "dashboards" / "noria.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
SELECTOR = re.compile(r"\b(noria_\w+)(?:\{([^}]*)\})?")
NOW = datetime.now(UTC).isoformat(timespec="seconds")
PROMTOOL = shutil.which("promtool")


# What there is only while something is tried, refused, or judged: names and labels as their modules have them.
NONE_YET = {
    "noria_refusals_total": {"reason"},
    "noria_feedback_total": {"model", "verdict"},
    "noria_canary_share": {"model", "version", "role"},
    "noria_shadow_rows_total": {"model", "version", "is_same"},
}


@pytest.fixture
def told(workspace) -> Workspace:
    """A workspace of which everything can be told: runs, an update, a champion."""
    for node in (deploy, update):
        node.fn(workspace)
    remember_run(workspace, Run("a", "pipeline", NOW, state="completed", ended=NOW))
    remember_run(workspace, Run("b", "pipeline", NOW))  # killed: nobody holds the workspace
    remember(workspace, Attempt(run="a", stage="train", state="ran", seconds=4.5, own_s=4.0, ended=NOW))
    with write_artifact(workspace.raw, kind="raw") as draft:
        draft.ledger = Ledger(9, 7, quarantined=2)
    store = store_of(workspace)
    other = store.publish(tiny.inverted_bundle(workspace.bundle, workspace.root / "other").path)
    store.try_out(version_of(other), mode="canary", share=0.1, reason="why not", over=store.production())
    with write_artifact(workspace.arrivals, kind="arrivals") as draft:
        draft.facts["feedback"] = {"rows": 4, "refused": {}, "right": 5, "wrong": 6}
    with write_artifact(workspace.monitoring, kind="monitoring") as draft:
        feature = {"name": "num_chars", "statistic": "psi", "value": 0.4, "drifted": True}
        found = {"features": [feature], "metric": {"name": "accuracy", "value": 0.8, "baseline": 0.9}}
        (draft.path / "monitoring.json").write_text(json.dumps(found))
    with write_artifact(workspace.decision, kind="decision") as draft:
        decision = {"action": "call", "reasons": ["because"], "triggers": [], "time": NOW, "version": "v"}
        (draft.path / "decision.json").write_text(json.dumps(decision))
    return workspace


def families(registry_text: str) -> dict[str, set[str]]:
    """Labels by the names that Prometheus has for them."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(registry_text):
        names = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        labels = {label for sample in family.samples for label in sample.labels}
        found |= {family.name + suffix: labels | ({"le"} if suffix == "_bucket" else set()) for suffix in names}
    return found


def exported(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_what_happened_to_runs_data_and_models_is_exported(told):
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in runs_metrics([told]).collect()
        for sample in family.samples
    }
    model, version = told.config.name, store_of(told).production().version
    assert samples["noria_runs_total", model, "pipeline", "completed"] == 1
    assert samples["noria_runs_total", model, "pipeline", "crashed"] == 1
    assert samples["noria_runs_total", model, "evaluate-and-update", "failed"] == 0
    assert samples["noria_run_success_timestamp_seconds", model, "pipeline"] == datetime.fromisoformat(NOW).timestamp()
    assert samples["noria_stage_seconds", model, "train"] == 4.5
    assert samples["noria_decision", model, "call"] == 1
    assert samples["noria_drift", model, "num_chars", "psi"] == 0.4
    assert samples["noria_rows", model, "raw", "quarantined"] == 2
    assert samples["noria_store_up", model] == 1
    assert samples["noria_events_total", model, "promoted"] == 1
    assert samples["noria_champion_metric", model, version, "accuracy"] > 0.5


def test_a_store_that_cannot_be_read_takes_no_other_metric_away(told):
    (Path(told.store) / told.config.name / "production.json").write_text("{")
    found = families(exported(runs_metrics([told])))
    assert "noria_runs_total" in found and "noria_champion_metric" not in found


def test_every_metric_and_label_of_dashboard_and_alarms_exists(told):
    predictor = Predictor(open_bundle(told.bundle))
    client = TestClient(create_app({told.config.name: predictor}, config=ServeConfig()), base_url="http://localhost")
    assert client.post("/predict", json={"text": "质量很好"}).status_code == 200
    assert client.post("/predict", json={"text": 1}).status_code == 422
    known = families(client.get("/metrics").text) | families(exported(runs_metrics([told])))
    known |= NONE_YET
    for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        assert query.count("(") == query.count(")") and query.count("{") == query.count("}")
        for name, selectors in SELECTOR.findall(query):
            assert name in known, query
            labels = set(re.findall(r"(\w+)\s*[=!]~?", selectors))
            assert labels <= known[name] | {"job", "instance"}, query
    shown = {name for query in QUERIES for name, _ in SELECTOR.findall(query)}
    assert {name for name in known if not name.endswith(("_sum", "_count", "_created"))} - shown == set()


def test_every_alarm_and_every_kind_of_news_has_its_runbook():
    headings = re.findall(r"^### (\w+)$", (INFRA.parent / "docs" / "alarms.md").read_text(), flags=re.MULTILINE)
    assert sorted(headings) == sorted([rule["alert"] for rule in RULES] + list(NotifyConfig().kinds))
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/alarms.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")


def test_prometheus_asks_both_and_grafana_finds_the_dashboard():
    jobs = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    named = set(re.findall(r'job="([\w-]+)"', (INFRA / "prometheus" / "alerts.yml").read_text()))
    assert {job["job_name"] for job in jobs} == named
    (source,) = yaml.safe_load((INFRA / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"}
    assert used == {source["uid"]}
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in DASHBOARD["panels"]})


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool on this machine")
def test_prometheus_itself_takes_the_configuration_and_the_rules():
    for what, name in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        options = ["--syntax-only"] if what == "config" else []  # the token is a file of where it runs
        subprocess.run([PROMTOOL, "check", what, *options, str(INFRA / "prometheus" / name)], check=True)
