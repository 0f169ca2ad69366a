"""One pointer for champion and canary: every change is one swap and one event, whoever repeats it or dies in it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny

from noria.errors import StoreError
from noria.serving.bundle import version_of
from noria.serving.store import ModelStore


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")


@pytest.fixture
def versions(store, tmp_path) -> list[str]:
    """Three published versions, the first of which is live."""
    bundles = [tiny.opaque_bundle(tmp_path / f"bundle{i}", f"model {i}") for i in range(3)]
    versions = [version_of(store.publish(bundle.path)) for bundle in bundles]
    store.promote(versions[0], reason="first", over=None)
    return versions


def told(store: ModelStore) -> list[tuple[str, str]]:
    """What moved, to which version."""
    moves = ("promoted", "rolled-back", "canary", "withdrawn")
    return [(event.kind, event.version) for event in store.journal.events() if event.kind in moves]


def try_out(store, version, *, mode="canary", share=0.1):
    return store.try_out(version, mode=mode, share=share, reason="better", over=store.production())


def test_a_canary_stands_beside_what_is_live_and_goes_live_or_goes(store, versions):
    first, second, third = versions
    live = try_out(store, second)
    assert (live.version, live.canary.version, live.canary.mode, live.canary.share) == (first, second, "canary", 0.1)
    assert store.production() == live
    assert store.withdraw(reason="errors", over=live).canary is None
    try_out(store, third, mode="shadow")
    live = store.promote(third, reason="no worse", over=store.production())
    assert (live.version, live.previous, live.canary) == (third, (first,), None)
    assert told(store) == [
        ("promoted", first),
        ("canary", second),
        ("withdrawn", second),
        ("canary", third),
        ("promoted", third),
    ]


def test_without_a_canary_the_pointer_says_nothing_of_one(store, versions):
    values = json.loads(Path(store.place(), "production.json").read_text())
    assert "canary" not in values
    del values["event"]  # as it was written before there were canaries
    Path(store.place(), "production.json").write_text(json.dumps(values))
    assert store.production().version == versions[0]
    assert try_out(store, versions[1]).canary.version == versions[1]


def test_another_canary_takes_the_place_and_what_waits_waits_since_the_first(store, versions):
    _, second, third = versions
    first = try_out(store, second).canary
    replaced = try_out(store, third, mode="shadow").canary
    assert (replaced.version, replaced.waiting_since) == (third, first.since)
    assert replaced.since > first.since
    assert replaced.trial != first.trial
    assert store.journal.events()[-1].details["replaced"] == second
    store.withdraw(reason="worse", over=store.production())
    again = try_out(store, second).canary
    assert again.waiting_since == again.since


@pytest.mark.parametrize("change", ["promote", "rollback"])
def test_no_canary_is_left_when_something_else_goes_live(store, versions, change):
    first, second, third = versions
    store.promote(second, reason="next", over=store.production())
    try_out(store, third)
    if change == "promote":
        store.promote(first, reason="by hand", over=store.production())
    else:
        store.rollback(reason="worse")
    assert (store.production().version, store.production().canary) == (first, None)
    assert store.journal.events()[-1].details["canary"] == third
    assert store.journal.taken_back(third) is None  # nothing was found against it


def test_what_is_live_is_not_tried_and_neither_is_what_is_unknown(store, versions):
    with pytest.raises(StoreError, match="can't be tried beside itself"):
        try_out(store, versions[0])
    with pytest.raises(StoreError, match="there is no version"):
        try_out(store, "0123456789ab")
    assert store.production().canary is None


def test_a_decision_made_against_another_state_is_refused(store, versions):
    first, second, third = versions
    before = store.production()
    try_out(store, second)
    for change in (
        lambda: store.promote(third, reason="late", over=before),
        lambda: store.try_out(third, mode="canary", share=0.1, reason="late", over=before),
    ):
        with pytest.raises(StoreError, match="nothing was changed") as caught:
            change()
        assert caught.value.expected == f"{first} live, found {first} live beside {second}"
    assert store.production().canary.version == second


def test_repeating_a_change_is_no_change(store, versions):
    first, second, _ = versions
    alone = store.production()
    beside = try_out(store, second)
    assert store.try_out(second, mode="canary", share=0.1, reason="again", over=beside) == beside
    live = store.promote(second, reason="no worse", over=beside)
    assert store.promote(second, reason="again", over=beside) == live
    assert store.promote(second, reason="again", over=live) == live
    assert store.withdraw(reason="none there", over=live) == live
    assert told(store) == [("promoted", first), ("canary", second), ("promoted", second)]
    assert alone.version == first


def test_a_withdrawal_that_another_made_already_is_no_error(store, versions):
    beside = try_out(store, versions[1])
    store.withdraw(reason="worse", over=beside)
    assert store.withdraw(reason="worse", over=beside).canary is None
    assert told(store)[1:] == [("canary", versions[1]), ("withdrawn", versions[1])]


@pytest.mark.parametrize("change", ["promote", "withdraw"])
def test_of_racing_changes_one_is_told(store, versions, change):
    beside = try_out(store, versions[1])
    barrier, refused = threading.Barrier(8), []

    def race():
        barrier.wait()
        try:
            if change == "promote":
                store.promote(versions[1], reason="no worse", over=beside)
            else:
                store.withdraw(reason="worse", over=beside)
        except StoreError as error:
            refused.append(error)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kind = {"promote": "promoted", "withdraw": "withdrawn"}[change]
    assert told(store)[2:] == [(kind, versions[1])]
    assert all("came in between" in error.what for error in refused)


@contextmanager
def dying(store, kind, monkeypatch):
    """The process dies when it is about to tell the journal of this kind."""
    keep = store.journal.keep

    def die(event):
        if event.kind == kind:
            raise KeyboardInterrupt
        return keep(event)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(store.journal, "keep", die)
        yield


@pytest.mark.parametrize("change", ["promote", "withdraw"])
def test_who_dies_between_the_swap_and_the_journal_leaves_the_event_to_the_next(store, versions, change, monkeypatch):
    _, second, third = versions
    beside = try_out(store, second)
    act = {
        "promote": lambda: store.promote(second, reason="no worse", over=beside),
        "withdraw": lambda: store.withdraw(reason="worse", over=beside),
    }[change]
    kind = {"promote": "promoted", "withdraw": "withdrawn"}[change]
    with dying(store, kind, monkeypatch):
        act()
    assert told(store)[2:] == []
    assert store.production().event.kind == kind
    act()
    assert told(store)[2:] == [(kind, second)]
    act()
    try_out(store, third)
    assert told(store)[2:] == [(kind, second), ("canary", third)]


def test_a_rollback_that_died_before_it_was_told_is_not_done_twice(store, versions, monkeypatch):
    first, second, third = versions
    for version in (second, third):
        store.promote(version, reason="next", over=store.production())
    with dying(store, "rolled-back", monkeypatch):
        store.rollback(reason="worse")
    assert store.rollback(reason="worse").version == second
    assert told(store)[-1] == ("rolled-back", second)
    assert store.rollback(reason="worse", of=third).version == second
    assert store.rollback(reason="worse").version == first


def test_who_dies_between_a_version_and_the_journal_leaves_its_publication_to_the_next(store, tmp_path, monkeypatch):
    bundle = tiny.opaque_bundle(tmp_path / "bundle", "a model")
    with dying(store, "published", monkeypatch):
        store.publish(bundle.path)
    for _ in range(2):
        store.publish(bundle.path)
    assert [event.kind for event in store.journal.events()] == ["published"]


def test_an_event_that_nobody_told_is_told_before_the_pointer_moves_on(store, versions, monkeypatch):
    _, second, third = versions
    with dying(store, "canary", monkeypatch):
        try_out(store, second)
    store.promote(third, reason="by hand", over=store.production())
    assert told(store)[1:] == [("canary", second), ("promoted", third)]


def test_the_journal_knows_what_was_withdrawn_until_it_is_tried_or_live_again(store, versions):
    _, second, third = versions
    try_out(store, second)
    store.withdraw(reason="3 errors", over=store.production())
    assert store.journal.taken_back(second).reason == "3 errors"
    assert store.journal.taken_back(third) is None
    try_out(store, second)
    assert store.journal.taken_back(second) is None
    store.withdraw(reason="3 errors", over=store.production())
    store.promote(second, reason="it was the network", over=store.production())
    assert store.journal.taken_back(second) is None
