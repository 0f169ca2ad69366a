"""Deploy and update on a real bundle and a real store: what goes live, and what never does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny

from noria.artifacts import read_artifact
from noria.cli import main
from noria.config import SplitConfig
from noria.data.sides import in_validation
from noria.errors import BundleError, StoreError
from noria.evaluation.judged import read_validation
from noria.serving.bundle import open_bundle, version_of
from noria.serving.contest import held_out_by_both
from noria.serving.deployment import stage_bundle
from noria.serving.store import store_of
from noria.serving.update import update_production
from tasks.deploy import deploy
from tasks.update import update


def decide(workspace, version):
    config = workspace.config
    rows = read_validation(workspace.splits)
    return update_production(
        store_of(workspace),
        version,
        rows,
        deploy=config.deploy,
        config=config.update,
        evaluate=config.evaluate,
        seed=config.seed,
    )


def events(workspace):
    return [(event.kind, event.version) for event in store_of(workspace).journal.events()]


def test_deploying_stages_and_updating_promotes_the_first_model_once(workspace):
    staged = deploy.fn(workspace)
    version = version_of(read_artifact(workspace.bundle))
    assert staged.facts["version"] == version
    assert store_of(workspace).production() is None
    deploy.fn(workspace)
    assert events(workspace) == [("published", version), ("staged", version)]
    assert f"`{version}`** is staged, not live" in deploy.summary(workspace)

    assert update.fn(workspace).facts["decision"] == "promote"
    assert "nothing is live, and it has learned" in update.summary(workspace)
    assert store_of(workspace).production().version == version
    promoted = store_of(workspace).journal.events()[-1]
    assert promoted.details["gain"]["low"] > 0

    assert update.fn(workspace).facts["decision"] == "keep"
    assert "is already live" in update.summary(workspace)
    assert len(events(workspace)) == 3


def test_a_worse_challenger_leaves_the_champion_and_a_better_one_replaces_it(workspace, tmp_path):
    store = store_of(workspace)
    good = version_of(store.publish(workspace.bundle))
    bad = version_of(store.publish(tiny.inverted_bundle(workspace.bundle, tmp_path / "bad").path))
    store.promote(good, reason="by hand", over=None)
    kept = decide(workspace, bad)
    assert (kept.decision, store.production().version) == ("keep", good)
    assert kept.champion_metric == pytest.approx(1 - kept.challenger_metric)
    assert events(workspace)[-1] == ("kept", bad)

    store.promote(bad, reason="by mistake", over=store.production())
    better = decide(workspace, good)
    assert (better.decision, store.production().version) == ("promote", good)
    assert better.latency_ratio < 2
    assert json.loads(json.dumps(store.journal.events()[-1].details))["over"] == bad


def test_each_further_challenger_on_the_same_rows_must_be_surer(workspace, tmp_path):
    store = store_of(workspace)
    good = version_of(store.publish(workspace.bundle))
    bad = version_of(store.publish(tiny.inverted_bundle(workspace.bundle, tmp_path / "bad").path))
    other = version_of(store.publish(tiny.inverted_bundle(workspace.bundle, tmp_path / "other", honest=True).path))
    store.promote(good, reason="by hand", over=None)
    first, again, second = decide(workspace, bad), decide(workspace, bad), decide(workspace, other)
    assert (first.use, again.use, second.use) == (1, 1, 2)
    assert first.gain == again.gain
    assert second.gain.high - second.gain.low > first.gain.high - first.gain.low
    assert "use 2 of these validation rows: its interval is of 99.240% confidence" in second.reasons[-1]
    assert second.size_ratio == pytest.approx(1, abs=0.01)


def test_a_version_that_was_kept_out_is_promoted_by_force_alone_and_the_journal_says_so(workspace, tmp_path, capsys):
    store = store_of(workspace)
    good = version_of(store.publish(workspace.bundle))
    bad = version_of(store.publish(tiny.inverted_bundle(workspace.bundle, tmp_path / "bad").path))
    store.promote(good, reason="by hand", over=None)
    kept = decide(workspace, bad)
    command = ["promote", bad, "--reason", "a demonstration", "-C", str(workspace.root)]
    assert main(command) == StoreError.exit_code
    assert kept.reasons[0] in capsys.readouterr().err
    assert store.production().version == good
    assert main([*command, "--force"]) == 0
    event = store.journal.events()[-1]
    assert (store.production().version, event.kind, event.reason) == (bad, "promoted", "a demonstration")
    assert event.details["forced"] is True and kept.reasons[0] in event.details["verdict"]


def test_a_model_that_was_rolled_back_stays_out_until_promoted_by_hand(workspace, tmp_path):
    store = store_of(workspace)
    good = version_of(store.publish(workspace.bundle))
    bad = version_of(store.publish(tiny.inverted_bundle(workspace.bundle, tmp_path / "bad").path))
    store.promote(bad, reason="first", over=None)
    store.promote(good, reason="better on the rows", over=store.production())
    store.rollback(reason="customers complain")
    before = events(workspace)
    kept = decide(workspace, good)
    assert (kept.decision, store.production().version) == ("keep", bad)
    assert "was rolled back" in kept.reasons[0] and "customers complain" in kept.reasons[0]
    assert events(workspace) == before


def test_rows_that_the_champion_was_trained_on_do_not_judge(workspace, tmp_path):
    rows = read_validation(workspace.splits)
    challenger = open_bundle(workspace.bundle)
    assert held_out_by_both(rows, challenger, challenger) == rows
    smaller = SplitConfig(validation_share=0.05)
    champion = replace(challenger, split=smaller)
    fair = held_out_by_both(rows, challenger, champion)
    assert 0 < len(fair) < len(rows)
    assert all(in_validation(str(row["id"]), smaller) for row in fair)
    assert held_out_by_both(rows, challenger, replace(challenger, split=SplitConfig(group_by="shop"))) == []

    store = store_of(workspace)
    old = tiny.resplit_bundle(workspace.bundle, tmp_path / "old", validation_share=0.001)
    store.promote(version_of(store.publish(old.path)), reason="first", over=None)
    verdict = decide(workspace, version_of(store.publish(workspace.bundle)))
    assert (verdict.decision, verdict.rows) == (
        "inconclusive",
        len(held_out_by_both(rows, challenger, open_bundle(old.path))),
    )
    assert "`evaluate.min_slice_rows`" in verdict.reasons[0]


def test_a_first_model_that_learned_nothing_does_not_go_live(workspace, tmp_path):
    store = store_of(workspace)
    bad = version_of(store.publish(tiny.inverted_bundle(workspace.bundle, tmp_path / "bad").path))
    assert decide(workspace, bad).decision == "keep"
    assert store.production() is None


def test_a_failed_deploy_leaves_the_champion_serving(workspace, tmp_path):
    deploy.fn(workspace)
    update.fn(workspace)
    store = store_of(workspace)
    live = store.production()
    liar = tiny.inverted_bundle(workspace.bundle, tmp_path / "liar")  # its golden answers are the other model's
    with pytest.raises(BundleError, match="could not serve the bundle") as caught:
        stage_bundle(store, liar)
    assert "does not answer as it did when it was made" in str(caught.value)
    assert store.production() == live
    assert ("staged", version_of(liar)) not in events(workspace)


def test_a_bundle_tampered_with_is_not_deployed(workspace):
    (workspace.bundle / "model.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="can't be trusted"):
        deploy.fn(workspace)
    assert store_of(workspace).versions() == []


def test_a_challenger_that_was_not_deployed_is_an_error(workspace):
    with pytest.raises(StoreError, match="there is no version"):
        update.fn(workspace)
