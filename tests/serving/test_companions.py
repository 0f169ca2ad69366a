"""Checkpoints and baselines in a store: never changed, mended when damaged, no part of what is live."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny

from noria.artifacts import read_artifact, write_artifact
from noria.errors import ArtifactError, StoreError
from noria.serving.bundle import version_of
from noria.serving.store import ModelStore

VERSION = "0123456789ab"


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")


@pytest.fixture
def checkpoint(tmp_path):
    return tiny.opaque_checkpoint(tmp_path / "checkpoint", "weights")


def test_publishing_twice_is_publishing_once(store, checkpoint):
    copies = [store.checkpoints.publish(checkpoint.path) for _ in range(2)]
    assert [copy.digest for copy in copies] == [checkpoint.digest] * 2
    assert store.checkpoints.names() == [checkpoint.digest]
    assert Path(store.checkpoints.place(checkpoint.digest)) == copies[0].path != checkpoint.path
    assert not list(store.journal.events()) and store.production() is None


def test_versions_promotion_and_rollback_know_nothing_of_checkpoints(store, checkpoint, tmp_path):
    store.checkpoints.publish(checkpoint.path)
    versions = [version_of(store.publish(tiny.opaque_bundle(tmp_path / f"b{i}", f"{i}").path)) for i in range(2)]
    assert store.versions() == sorted(versions)
    for version in versions:
        store.promote(version, reason="next", over=store.production())
    assert store.rollback(reason="worse").version == versions[0]
    assert store.checkpoints.names() == [checkpoint.digest]


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "manifest", "half"])
def test_a_damaged_checkpoint_is_refused_and_publishing_again_mends_it(store, checkpoint, damage):
    path = store.checkpoints.publish(checkpoint.path).path
    match damage:
        case "changed":
            (path / "model.safetensors").write_text("other weights")
        case "missing":
            (path / "config.json").unlink()
        case "added":
            (path / "extra").touch()
        case "manifest":
            (path / "manifest.json").write_text("{")
        case "half":
            (path / "manifest.json").unlink()
    with pytest.raises(StoreError, match="not in the store" if damage == "half" else "can't be trusted"):
        store.checkpoints.fetch(checkpoint.digest)
    assert store.checkpoints.publish(checkpoint.path).digest == checkpoint.digest
    assert read_artifact(path).files == checkpoint.files


def test_a_checkpoint_in_the_place_of_another_is_refused(store, checkpoint, tmp_path):
    path = store.checkpoints.publish(checkpoint.path).path
    shutil.rmtree(path)
    other = tiny.opaque_checkpoint(tmp_path / "other", "other")
    shutil.copytree(other.path, path)
    for ask in (lambda: store.checkpoints.fetch(checkpoint.digest), lambda: store.checkpoints.publish(checkpoint.path)):
        with pytest.raises(StoreError, match=f"{other.digest[:12]} lies in its place"):
            ask()


@pytest.mark.parametrize("digest", ["0" * 64, "None", "../../etc", ""])
def test_an_unknown_checkpoint_is_an_error_that_says_what_to_do(store, digest):
    with pytest.raises(StoreError, match="not in the store") as caught:
        store.checkpoints.fetch(digest)
    assert "train.init_from: none" in str(caught.value)


def test_nothing_else_is_published_as_a_checkpoint(store, checkpoint, tmp_path):
    with pytest.raises(StoreError, match="a bundle, not a checkpoint"):
        store.checkpoints.publish(tiny.opaque_bundle(tmp_path / "bundle", "x").path)
    (checkpoint.path / "model.safetensors").write_text("damaged")
    with pytest.raises(ArtifactError, match="changed"):
        store.checkpoints.publish(checkpoint.path)
    assert store.checkpoints.names() == []


def baseline(path, content, *, kind="baseline"):
    with write_artifact(path, kind=kind) as draft:
        (draft.path / "objects.json").write_text(content)
    return path


def test_the_first_baseline_of_a_version_stays(store, tmp_path):
    first = store.baselines.publish(baseline(tmp_path / "first", "[]"), version=VERSION)
    assert store.baselines.publish(baseline(tmp_path / "second", "[1]"), version=VERSION).digest == first.digest
    assert store.baselines.fetch(VERSION).digest == first.digest


def test_a_damaged_baseline_is_refused_and_publishing_again_mends_it(store, tmp_path):
    path = store.baselines.publish(baseline(tmp_path / "first", "[]"), version=VERSION).path
    (path / "objects.json").write_text("[1]")
    with pytest.raises(StoreError, match="can't be trusted"):
        store.baselines.fetch(VERSION)
    store.baselines.publish(tmp_path / "first", version=VERSION)
    assert (store.baselines.fetch(VERSION).path / "objects.json").read_text() == "[]"


def test_a_version_without_one_and_another_artifact_are_refused(store, tmp_path):
    with pytest.raises(StoreError, match="has no baseline"):
        store.baselines.fetch(VERSION)
    with pytest.raises(StoreError, match="not a baseline"):
        store.baselines.publish(baseline(tmp_path / "other", "[]", kind="bundle"), version=VERSION)
