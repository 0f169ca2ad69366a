"""The commands around a canary: one makes it live, one takes it away, one tells how it does."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import tiny
from listeners import posted, webhook

from flows.status import _tried
from noria.cli import main
from noria.cli.status import _show_tried
from noria.errors import StoreError
from noria.notify import ADDRESSES
from noria.serving.bundle import open_bundle, version_of
from noria.serving.lineup import Lineup, Serving, Trial
from noria.serving.objects import open_objects
from noria.serving.observer import Observer
from noria.serving.predictor import Predictor
from noria.serving.store import store_of


@pytest.fixture
def versions(workspace, tmp_path):
    """Three that answer; the first is live, the second was before."""
    bundles = [
        workspace.bundle,
        tiny.inverted_bundle(workspace.bundle, tmp_path / "second", honest=True).path,
        tiny.resplit_bundle(workspace.bundle, tmp_path / "third", validation_share=0.2).path,
    ]
    store = store_of(workspace)
    first, second, third = (version_of(store.publish(bundle)) for bundle in bundles)
    for version in (second, first):
        store.promote(version, reason="test", over=store.production())
    return first, second, third


@pytest.fixture
def command(workspace, capsys):
    def run(*arguments):
        code = main([*arguments, "-C", str(workspace.root)])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def state(workspace):
    live = store_of(workspace).production()
    return live.version, live.canary and (live.canary.version, live.canary.mode, live.canary.share)


def test_a_version_is_tried_by_hand_and_promoted_without_naming_it(workspace, versions, command):
    first, _, third = versions
    code, told = command("promote", third, "--canary", "0.1", "--reason", "look at it")
    assert (code, state(workspace)) == (0, (first, (third, "canary", 0.1)))
    assert f"{third} is tried as a canary on 10.0% of the requests, beside {first}" in told
    code, told = command("promote", "--reason", "good")
    assert (code, state(workspace)) == (0, (third, None))
    assert f"{third} is live, {first} was before" in told
    code, told = command("promote", "--reason", "again")
    assert code == StoreError.exit_code
    assert "none is tried as a canary" in told


def test_promoting_another_version_says_that_the_canary_is_gone(workspace, versions, command):
    first, second, third = versions
    command("promote", third, "--canary", "0.1", "--reason", "look at it")
    _, told = command("promote", second, "--reason", "by hand")
    assert state(workspace) == (second, None)
    assert f"the canary {third} is gone: it was compared with {first}" in told


def test_a_rollback_takes_back_what_clients_saw_last(workspace, versions, command):
    first, second, third = versions
    command("promote", third, "--canary", "0.1", "--reason", "look at it")
    _, told = command("rollback", "--reason", "odd answers")
    assert state(workspace) == (first, None)
    assert f"the canary {third} is withdrawn; {first} is live, as before" in told
    assert store_of(workspace).journal.taken_back(third).reason == "odd answers"
    _, told = command("rollback")
    assert state(workspace) == (second, None)
    assert f"{second} is live again in place of {first}" in told


def test_a_shadow_is_no_reason_to_leave_a_bad_version_live(workspace, versions, command):
    _, second, third = versions
    command("promote", third, "--shadow", "1", "--reason", "look at it")
    command("rollback")
    assert state(workspace) == (second, None)
    command("promote", third, "--shadow", "1", "--reason", "look at it")
    _, told = command("rollback", "--canary")
    assert state(workspace) == (second, None)
    assert f"the shadow {third} is withdrawn" in told
    _, told = command("rollback", "--canary")
    assert "there is no canary" in told
    assert state(workspace) == (second, None)


def test_what_is_changed_by_hand_is_told_and_what_is_not_changed_is_not(workspace, versions, command, monkeypatch):
    first, second, third = versions
    with webhook() as hook:
        monkeypatch.setenv(ADDRESSES, f"json://127.0.0.1:{hook.port}")
        command("promote", first, "--reason", "again")
        command("promote", third, "--canary", "0.1", "--reason", "look at it")
        command("rollback", "--reason", "no")
        command("rollback", "--reason", "back")
    titles = [news["title"].partition("] ")[2] for news in posted(hook)]
    assert titles == [
        f"{third} is tried as a canary beside {first}",
        f"what was tried beside {first} is withdrawn",
        f"{second} is live in place of {first}",
    ]
    assert "By hand: back" in posted(hook)[-1]["message"]


@pytest.mark.parametrize("way", [("--canary", "0"), ("--canary", "0.6"), ("--shadow", "1.1"), ("--shadow", "x")])
def test_a_share_that_is_none_is_refused(workspace, versions, way, capsys):
    with pytest.raises(SystemExit):
        main(["promote", versions[2], *way, "--reason", "look at it", "-C", str(workspace.root)])
    assert way[0] in capsys.readouterr().err
    assert state(workspace)[1] is None


def test_status_tells_what_is_tried_and_how_it_does(workspace, versions, command, capsys):
    first, _, third = versions
    assert _tried(workspace) is None
    command("promote", third, "--canary", "0.1", "--reason", "look at it")
    store = store_of(workspace)
    served = [Serving(Predictor(open_bundle(store.fetch(version).path))) for version in (first, third)]
    trial = Trial(store.production().canary, *served)
    for _ in range(30):
        trial.challenger.tally.answered([], seconds=0.01)
    trial.challenger.tally.errors = 2
    Observer(open_objects(store.url), store.name).write(Lineup(trial.champion, trial))
    tried = _tried(workspace)
    assert (tried.version, tried.canary.requests, tried.canary.errors, tried.champion.requests) == (third, 32, 2, 0)
    assert json.loads(json.dumps(asdict(tried)))["canary"]["p50_ms"] == pytest.approx(10, rel=0.12)
    _show_tried(tried)
    told = capsys.readouterr().out
    assert f"canary: {third}, on 10.0% of the requests" in told
    assert "32 requests, 2 errors, p50 " in told
    assert "200 answers are needed; counted by servers: 1" in told
