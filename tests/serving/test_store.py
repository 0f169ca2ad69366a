"""The store: immutable versions, one atomic pointer, a journal; in a directory."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import tiny

from noria.errors import BundleError, StoreError
from noria.serving.bundle import version_of
from noria.serving.store import ModelStore


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")


@pytest.fixture
def versions(store, tmp_path) -> list[str]:
    """Three published versions."""
    bundles = [tiny.opaque_bundle(tmp_path / f"bundle{i}", f"model {i}") for i in range(3)]
    return [version_of(store.publish(bundle.path)) for bundle in bundles]


def kinds(store: ModelStore) -> list[str]:
    return [event.kind for event in store.journal.events()]


def test_publishing_twice_is_publishing_once(store, tmp_path):
    bundle = tiny.opaque_bundle(tmp_path / "bundle", "model")
    assert store.publish(bundle.path).digest == store.publish(bundle.path).digest == bundle.digest
    assert store.versions() == [version_of(bundle)]
    assert kinds(store) == ["published"]
    assert store.production() is None


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "manifest"])
def test_a_damaged_version_is_refused_and_never_goes_live(store, versions, damage):
    path = Path(store.place(versions[0]))
    match damage:
        case "changed":
            (path / "model.onnx").write_text("another model")
        case "missing":
            (path / "golden.json").unlink()
        case "added":
            (path / "extra").touch()
        case "manifest":
            (path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="can't be trusted"):
        store.promote(versions[0], reason="test", over=None)
    assert store.production() is None


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "manifest", "half"])
def test_publishing_again_mends_a_damaged_version(store, versions, tmp_path, damage):
    path = Path(store.place(versions[0]))
    match damage:
        case "changed":
            (path / "model.onnx").write_text("another model")
        case "missing":
            (path / "golden.json").unlink()
        case "added":
            (path / "extra").touch()
        case "manifest":
            (path / "manifest.json").write_text("{}")
        case "half":
            (path / "manifest.json").unlink()
    assert version_of(store.publish(tmp_path / "bundle0")) == versions[0]
    assert store.promote(versions[0], reason="mended", over=None).version == versions[0]


def test_a_version_in_the_place_of_another_is_refused(store, versions):
    first, second = (Path(store.place(version)) for version in versions[:2])
    shutil.rmtree(first)
    shutil.copytree(second, first)
    with pytest.raises(BundleError, match=f"{versions[1]} lies in the place of {versions[0]}"):
        store.fetch(versions[0])


def test_a_half_copied_version_is_no_version(store, versions, tmp_path):
    (Path(store.place(versions[0])) / "manifest.json").unlink()
    assert store.versions() == sorted(versions[1:])
    with pytest.raises(StoreError, match="there is no version"):
        store.fetch(versions[0])


@pytest.mark.parametrize("name", ["0123456789ab", "../../etc", ""])
def test_an_unknown_version_is_refused_with_the_known_ones_listed(store, versions, name):
    with pytest.raises(StoreError) as caught:
        store.promote(name, reason="test", over=None)
    assert all(version in str(caught.value) for version in versions)


def test_promotion_and_rollback_walk_back_through_what_was_live(store, versions):
    first, second, third = versions
    for version in versions:
        store.promote(version, reason=f"try {version}", over=store.production())
    assert store.production().previous == (second, first)
    assert store.rollback(reason="worse").version == second
    assert store.rollback(reason="worse still").version == first  # and not the one that was rolled back
    with pytest.raises(StoreError, match="nothing to roll back to"):
        store.rollback(reason="once more")
    assert store.production().version == first
    assert kinds(store)[3:] == ["promoted"] * 3 + ["rolled-back"] * 2
    assert [event.reason for event in store.journal.events()][-1] == "worse still"
    assert third in store.versions()


def test_a_rollback_passes_over_a_damaged_version(store, versions):
    first, second, third = versions
    for version in versions:
        store.promote(version, reason="next", over=store.production())
    (Path(store.place(second)) / "model.onnx").write_text("damaged")
    assert store.rollback(reason="worse").version == first
    store.promote(third, reason="next", over=store.production())
    (Path(store.place(first)) / "manifest.json").unlink()
    with pytest.raises(StoreError, match="no version that was live before is whole"):
        store.rollback(reason="worse")
    assert store.production().version == third


def test_the_journal_knows_what_was_rolled_back_until_it_goes_live_again(store, versions):
    first, second, third = versions
    for version in versions:
        store.promote(version, reason="next", over=store.production())
    store.rollback(reason="worse")
    assert store.journal.taken_back(third).reason == "worse"
    assert store.journal.taken_back(second) is None
    store.rollback(reason="worse still")
    assert store.journal.taken_back(second).reason == "worse still"
    store.promote(third, reason="mended", over=store.production())
    assert store.journal.taken_back(third) is None
    store.promote(first, reason="next", over=store.production())
    store.rollback(reason="better before")
    assert store.journal.taken_back(third) is None


def test_a_damaged_event_names_its_place(store, versions, tmp_path):
    event = min((tmp_path / "store" / "reviews" / "journal").iterdir())
    event.write_text("")
    with pytest.raises(StoreError) as caught:
        store.journal.events()
    assert event.name in str(caught.value)


def test_promoting_what_is_live_changes_nothing(store, versions):
    live = store.promote(versions[0], reason="first", over=None)
    assert store.promote(versions[0], reason="again", over=live) == live
    assert kinds(store).count("promoted") == 1


def test_a_promotion_over_a_stale_champion_is_refused(store, versions):
    first, second, third = versions
    champion = store.promote(first, reason="first", over=None)
    store.promote(second, reason="somebody else", over=champion)
    for over in (champion, None):
        with pytest.raises(StoreError, match="another promotion came in between"):
            store.promote(third, reason="late", over=over)
    assert store.production().version == second


def test_of_racing_promotions_one_wins_and_readers_see_whole_pointers(store, versions):
    champion = store.promote(versions[0], reason="first", over=None)
    start, won, lost, seen = threading.Barrier(9), [], [], set()
    done = threading.Event()

    def race(version: str) -> None:
        own = ModelStore(store.url, name=store.name, cache=Path())
        start.wait()
        try:
            won.append(own.promote(version, reason="race", over=champion))
        except StoreError:
            lost.append(version)

    def read() -> None:
        start.wait()
        while not done.is_set():
            seen.add(store.production().version)

    racers = [threading.Thread(target=race, args=(version,)) for version in versions[1:] * 4]
    reader = threading.Thread(target=read)
    for thread in (*racers, reader):
        thread.start()
    for thread in racers:
        thread.join()
    done.set()
    reader.join()
    assert (len(won), len(lost)) == (1, 7)
    assert store.production() == won[0]
    assert seen <= {champion.version, won[0].version}
    assert won[0].previous == (champion.version,)


def test_a_pointer_that_is_no_json_names_its_place(store, versions, tmp_path):
    (tmp_path / "store" / "reviews" / "production.json").write_text("{")
    with pytest.raises(StoreError, match=r"pointer can't be read"):
        store.production()


def test_a_store_that_can_not_be_written_is_one_clear_error(versions, tmp_path):
    (tmp_path / "file").touch()
    broken = ModelStore(str(tmp_path / "file"), name="reviews", cache=tmp_path)
    with pytest.raises(StoreError, match="can't be written"):
        broken.publish(tmp_path / "bundle0")


def test_a_store_without_an_atomic_swap_is_refused(tmp_path):
    with pytest.raises(StoreError, match="can swap a pointer atomically"):
        ModelStore("ftp://somewhere/models", name="reviews", cache=tmp_path)


def test_events_are_single_objects_in_order_of_time(store, versions, tmp_path):
    files = sorted((tmp_path / "store" / "reviews" / "journal").iterdir())
    assert [json.loads(file.read_text())["version"] for file in files] == versions
    assert all(file.name.endswith("-published.json") for file in files)
