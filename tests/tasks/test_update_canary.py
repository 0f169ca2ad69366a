"""The update node and a canary, on real bundles: tried before it goes live, and judged by what servers wrote."""

from __future__ import annotations

import json

import pytest
import tiny

from noria.artifacts import read_artifact
from noria.evaluation.judged import read_validation
from noria.serving.bundle import open_bundle, version_of
from noria.serving.journal import Journal
from noria.serving.lineup import Lineup, Serving, Trial
from noria.serving.objects import open_objects
from noria.serving.observer import Observer
from noria.serving.predictor import Predictor
from noria.serving.store import store_of
from noria.serving.update import update_production
from noria.workspace import Workspace
from tasks.deploy import deploy
from tasks.notify import _changes, change_in_words, changed
from tasks.trial import trial
from tasks.update import update

CANARY = "deploy: {canary: 0.05, canary_requests: 20}\n"


@pytest.fixture
def canary(workspace, tmp_path):
    """A workspace that tries challengers on 5 % of the requests; a bad model is live, and its own bundle is better."""
    with workspace.params.open("a") as file:
        file.write(CANARY)
    workspace = Workspace.at(workspace.root)
    store = store_of(workspace)
    bad = tiny.inverted_bundle(workspace.bundle, tmp_path / "bad", honest=True)
    store.promote(version_of(store.publish(bad.path)), reason="first", over=None)
    deploy.fn(workspace)
    return workspace


def observe(workspace, *, answers, errors=0, of_champion=200):
    """A server counted this, beside what others counted."""
    store = store_of(workspace)
    live = store.production()
    champion, challenger = (
        Serving(Predictor(open_bundle(store.fetch(v).path))) for v in (live.version, live.canary.version)
    )
    for serving, number in ((champion, of_champion), (challenger, answers)):
        for _ in range(number):
            serving.tally.answered([], seconds=0.01)
    challenger.tally.errors = errors
    Observer(open_objects(store.url), store.name).write(Lineup(champion, Trial(live.canary, champion, challenger)))


def verdict_of(workspace):
    return json.loads((workspace.verdict / "verdict.json").read_text())


def moves(workspace):
    kinds = ("promoted", "rolled-back", "canary", "withdrawn", "overdue")
    return [event.kind for event in store_of(workspace).journal.events() if event.kind in kinds]


def test_a_better_challenger_is_tried_first_and_promoted_once_it_has_answered_enough(canary):
    own, bad = version_of(read_artifact(canary.bundle)), store_of(canary).production().version
    assert update.fn(canary).facts["decision"] == "canary"
    live = store_of(canary).production()
    assert (live.version, live.canary.version, live.canary.share) == (bad, own, 0.05)
    assert "before it goes live, it answers 5.0% of the requests (`deploy.canary`)" in update.summary(canary)
    assert verdict_of(canary)["gain"]["low"] > 0

    observe(canary, answers=15)
    assert update.fn(canary).facts["decision"] == "canary"
    assert verdict_of(canary)["trial"]["decision"] == "go on"
    assert "15 of 20 answers that are needed" in update.summary(canary)
    assert store_of(canary).production() == live

    observe(canary, answers=10)  # another server
    assert update.fn(canary).facts["decision"] == "promote"
    assert (verdict_of(canary)["trial"]["canary"]["requests"], verdict_of(canary)["champion"]) == (25, bad)
    assert f"| champion | `{bad}` | 400 | 0 |" in update.summary(canary)
    live = store_of(canary).production()
    assert (live.version, live.canary, live.previous) == (own, None, (bad,))
    assert "as a canary: it is no worse" in live.reason

    assert update.fn(canary).facts["decision"] == "keep"
    assert "is already live" in update.summary(canary)
    assert moves(canary) == ["promoted", "canary", "promoted"]


def test_a_canary_that_errs_is_withdrawn_and_stays_out(canary):
    update.fn(canary)
    bad = store_of(canary).production().version
    observe(canary, answers=10, errors=5)
    assert update.fn(canary).facts["decision"] == "keep"
    assert "it fails more often: on 5 of 15 requests, the champion on 0 of 200" in update.summary(canary)
    assert "was withdrawn as a canary" in verdict_of(canary)["reasons"][0]
    live = store_of(canary).production()
    assert (live.version, live.canary) == (bad, None)
    update.fn(canary)
    assert moves(canary) == ["promoted", "canary", "withdrawn"]


def test_the_first_model_goes_live_at_once(workspace):
    with workspace.params.open("a") as file:
        file.write(CANARY)
    workspace = Workspace.at(workspace.root)
    deploy.fn(workspace)
    assert update.fn(workspace).facts["decision"] == "promote"
    assert store_of(workspace).production().canary is None


def test_another_better_challenger_takes_the_place_of_a_canary(canary, tmp_path):
    update.fn(canary)
    first = store_of(canary).production()
    other = tiny.resplit_bundle(canary.bundle, tmp_path / "other", validation_share=0.1)
    assert version_of(other) != first.canary.version
    verdict = decide(canary, version_of(store_of(canary).publish(other.path)))
    assert (verdict.decision, verdict.trial.decision) == ("canary", "go on")
    assert f"it takes the place of the canary {first.canary.version}" in verdict.reasons
    live = store_of(canary).production()
    assert (live.version, live.canary.version) == (first.version, version_of(other))
    assert live.canary.waiting_since == first.canary.since


def test_a_canary_goes_live_and_then_judges_the_next_challenger(canary, tmp_path):
    update.fn(canary)
    own = store_of(canary).production().canary.version
    observe(canary, answers=30)
    worse = tiny.inverted_bundle(canary.bundle, tmp_path / "worse")
    verdict = decide(canary, version_of(store_of(canary).publish(worse.path)))
    assert (verdict.decision, verdict.champion, verdict.trial.decision) == ("keep", own, "promote")
    assert store_of(canary).production().version == own


def test_an_overdue_canary_is_told_once_and_goes_on(canary, caplog):
    update.fn(canary)
    text = canary.params.read_text().replace("canary_requests: 20", "canary_requests: 20, canary_days: 0.000000001")
    canary.params.write_text(text)
    workspace = Workspace.at(canary.root)
    for _ in range(2):
        assert update.fn(workspace).facts["decision"] == "canary"
    assert "Overdue: somebody should look" in update.summary(workspace)
    assert "is overdue" in caplog.text
    assert moves(workspace) == ["promoted", "canary", "overdue"]
    assert store_of(workspace).production().canary is not None


def test_who_dies_after_a_canary_went_live_promotes_it_once(canary, monkeypatch):
    update.fn(canary)
    observe(canary, answers=30)
    with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
        dying.setattr(Journal, "keep", _die_at_promotion)
        update.fn(canary)
    assert moves(canary) == ["promoted", "canary"]
    assert update.fn(canary).facts["decision"] == "keep"
    update.fn(canary)
    assert moves(canary) == ["promoted", "canary", "promoted"]


_keep = Journal.keep


def _die_at_promotion(journal, event):
    if event.kind == "promoted" and "trial" in event.details:
        raise KeyboardInterrupt
    return _keep(journal, event)


def decide(workspace, version):
    config = workspace.config
    return update_production(
        store_of(workspace),
        version,
        read_validation(workspace.splits),
        deploy=config.deploy,
        config=config.update,
        evaluate=config.evaluate,
        seed=config.seed,
    )


def test_a_canary_is_judged_without_a_challenger_and_only_its_end_is_news(canary):
    update.fn(canary)
    assert [what for what, _ in _changes(verdict_of(canary))] == [f"{version_of_canary(canary)} is tried on requests"]
    own = version_of_canary(canary)
    assert trial.fn(canary).facts["decision"] == "canary"
    assert not changed(read_artifact(canary.trial))
    update.fn(canary)
    assert not changed(read_artifact(canary.verdict))  # it stands there already
    observe(canary, answers=30)
    judged = trial.fn(canary)
    assert judged.facts["decision"] == "promote"
    verdict = json.loads((judged.path / "verdict.json").read_text())
    assert change_in_words(verdict)[0] == f"{own} went live after its trial"
    assert "it is no worse" in trial.summary(canary)
    assert (store_of(canary).production().version, moves(canary)) == (own, ["promoted", "canary", "promoted"])
    assert trial.fn(canary).facts["decision"] == "keep"  # a person was faster
    assert not changed(read_artifact(canary.trial))


def test_a_canary_that_errs_is_withdrawn_without_a_challenger(canary):
    update.fn(canary)
    own = version_of_canary(canary)
    observe(canary, answers=10, errors=5)
    judged = trial.fn(canary)
    assert judged.facts["decision"] == "keep"
    assert change_in_words(json.loads((judged.path / "verdict.json").read_text()))[0].startswith(f"{own} was withdrawn")
    assert store_of(canary).production().canary is None


def version_of_canary(workspace):
    return store_of(workspace).production().canary.version
