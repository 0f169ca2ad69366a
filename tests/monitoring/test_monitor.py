"""The champion on what arrived, from the arrivals to the decision, on a real bundle and a real store."""

from __future__ import annotations

import json

import pytest
import tiny
from arriving import arrive, rows_like_known

from noria.artifacts import write_artifact
from noria.data.rows import read_rows
from noria.data.source_objects import read_objects
from noria.monitoring.baseline import read_baseline
from noria.monitoring.report import read_monitoring
from noria.serving.arriving import known_objects
from noria.serving.bundle import read_bundle, version_of
from noria.serving.deployment import stage_bundle
from noria.serving.store import store_of
from tasks.decide import decide
from tasks.deploy import deploy
from tasks.monitor import monitor
from tasks.update import update


@pytest.fixture
def live(workspace):
    """A workspace whose model is live."""
    deploy.fn(workspace)
    update.fn(workspace)
    return workspace


def look(workspace):
    """What the monitoring found, and the decision."""
    monitor.fn(workspace)
    return read_monitoring(workspace.monitoring), decide.fn(workspace).facts


def test_deploying_writes_what_the_version_was_made_of_once(live):
    version = store_of(live).production().version
    published = store_of(live).baselines.fetch(version)
    baseline = read_baseline(published)
    assert len(baseline.known) == 420
    assert set(baseline.features.schema.names) >= {"num_chars", "han_share", "target: label"}
    assert set(baseline.answers.schema.names) == {"answer: label", "answer: confidence"}
    assert baseline.vectors.shape == (120, 32)
    assert 0.5 < baseline.metric.low <= baseline.metric.value <= baseline.metric.high <= 1
    deploy.fn(live)
    assert store_of(live).baselines.fetch(version).digest == published.digest


def test_rows_like_the_known_ones_raise_no_alarm(live):
    arrive(live, rows_like_known(400, seed=7), right=9, wrong=1)
    found, decided = look(live)
    assert (found.rows, found.untried, found.metric.rows) == (400, 400, 400)
    assert found.metric.judged and found.metric.drop_low < 0 < found.metric.drop_high
    assert not [one.name for one in found.features if one.drifted]
    assert {one.name for one in found.features} >= {"num_chars", "target: label", "answer: label", "representation"}
    assert (found.feedback.right, found.feedback.wrong) == (9, 1)
    assert found.feedback.agreement.low == pytest.approx(0.596, abs=0.001)  # Wilson, of 9 in 10
    assert decided["action"] == "none"
    page = monitor.summary(live)
    assert "| fresh | 400 |" in page and "data:image/png;base64" in page


def test_longer_texts_are_drift_and_a_reason_to_train(live):
    arrive(live, rows_like_known(200, seed=8, length=(60, 90)))
    found, decided = look(live)
    drifted = {one.name for one in found.features if one.drifted}
    assert "num_chars" in drifted and "target: label" not in drifted
    assert decided["action"] == "retrain"
    assert any("features drifted" in reason and "num_chars" in reason for reason in decided["reasons"])


def test_ten_longer_texts_are_not_yet(live):
    arrive(live, rows_like_known(10, seed=8, length=(60, 90)))
    found, decided = look(live)
    assert not any(one.drifted for one in found.features)
    assert not found.metric.judged
    assert decided["action"] == "none"


def test_labels_that_are_all_wrong_call_a_person(live):
    flipped = [{**row, "label": {"neg": "pos", "pos": "neg"}[row["label"]]} for row in rows_like_known(200, seed=9)]
    arrive(live, flipped)
    found, decided = look(live)
    assert found.metric.value < 0.5 < found.metric.baseline
    assert decided["action"] == "call"
    assert "lost at least" in decided["reasons"][0]
    values = json.loads((live.decision / "decision.json").read_text())
    assert values["action"] == "call" and values["version"] == found.version
    assert "Stop: somebody has to look" in decide.summary(live)


def test_rows_of_one_label_alone_call_a_person(live):
    arrive(live, [row for row in rows_like_known(300, seed=10) if row["label"] == "pos"])
    found, decided = look(live)
    assert found.label_shift.value == pytest.approx(0.5, abs=0.1)
    assert decided["action"] == "call"
    assert any("other labels" in reason for reason in decided["reasons"])


def test_rows_of_corrections_do_not_judge_and_count_as_new(live):
    flipped = [{**row, "label": {"neg": "pos", "pos": "neg"}[row["label"]]} for row in rows_like_known(200, seed=9)]
    arrive(live, flipped, origin="feedback")
    found, decided = look(live)
    assert (found.rows, found.untried, found.metric, found.features) == (200, 200, None, ())
    assert decided["action"] == "none"


def test_what_the_champion_knows_is_not_fresh_and_nothing_is_computed(live):
    known = [{name: row[name] for name in ("text", "label")} for row in read_rows(live.splits / "train")]
    arrive(live, known)
    found, _ = look(live)
    assert found.rows == 300  # the tiny rows have ids of their own, so that all of these are new to it
    arrive(live, [])
    found, decided = look(live)
    assert (found.rows, found.metric, found.features) == (0, None, ())
    assert decided["action"] == "none"
    assert "nothing came" in decided["reasons"][0]


def test_before_the_first_model_whatever_came_is_trained_on(workspace):
    arrive(workspace, rows_like_known(50, seed=1))
    found, decided = look(workspace)
    assert found.version is None
    assert decided["action"] == "retrain"


def test_a_challenger_whose_run_was_killed_before_the_verdict_is_not_forgotten(live, tmp_path):
    arrive(live, [])
    stage_bundle(store_of(live), tiny.inverted_bundle(live.bundle, tmp_path / "bad", honest=True))
    _, decided = look(live)
    assert decided["action"] == "retrain"
    assert "never judged" in decided["reasons"][0]


def test_a_first_run_that_was_killed_after_it_read_the_source_is_gone_on_with(workspace):
    with write_artifact(workspace.raw, kind="raw"):
        pass
    arrive(workspace, [])
    _, decided = look(workspace)
    assert decided["action"] == "retrain"
    assert "the run that read the source ended before it was done" in decided["reasons"][0]
    stage_bundle(store_of(workspace), read_bundle(workspace.bundle))
    _, decided = look(workspace)
    assert decided["action"] == "retrain"
    assert "never judged" in decided["reasons"][0]


def test_a_first_model_that_was_no_better_than_guessing_is_not_trained_again_on_the_same(workspace):
    deploy.fn(workspace)
    store, version = store_of(workspace), version_of(read_bundle(workspace.bundle))
    store.journal.record("kept", version)
    arrive(workspace, [])
    assert look(workspace)[1]["action"] == "none"
    assert known_objects(store, workspace.root / "nowhere") == read_objects(store.baselines.fetch(version).path)
    arrive(workspace, rows_like_known(50, seed=1))
    found, decided = look(workspace)
    assert (found.version, found.untried, found.tried, decided["action"]) == (None, 50, version, "retrain")
