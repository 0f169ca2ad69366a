"""Baselines in a store: one a version, never changed, mended when damaged."""

from __future__ import annotations

import pytest

from noria.artifacts import write_artifact
from noria.errors import StoreError
from noria.serving.store import ModelStore

VERSION = "0123456789ab"


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")


def baseline(path, content, *, kind="baseline"):
    with write_artifact(path, kind=kind) as draft:
        (draft.path / "objects.json").write_text(content)
    return path


def test_the_first_baseline_of_a_version_stays(store, tmp_path):
    first = store.baselines.publish(VERSION, baseline(tmp_path / "first", "[]"))
    assert store.baselines.publish(VERSION, baseline(tmp_path / "second", "[1]")).digest == first.digest
    assert store.baselines.fetch(VERSION).digest == first.digest


def test_a_damaged_baseline_is_refused_and_publishing_again_mends_it(store, tmp_path):
    path = store.baselines.publish(VERSION, baseline(tmp_path / "first", "[]")).path
    (path / "objects.json").write_text("[1]")
    with pytest.raises(StoreError, match="can't be trusted"):
        store.baselines.fetch(VERSION)
    store.baselines.publish(VERSION, tmp_path / "first")
    assert (store.baselines.fetch(VERSION).path / "objects.json").read_text() == "[]"


def test_a_version_without_one_and_another_artifact_are_refused(store, tmp_path):
    with pytest.raises(StoreError, match="has no baseline"):
        store.baselines.fetch(VERSION)
    with pytest.raises(StoreError, match="not a baseline"):
        store.baselines.publish(VERSION, baseline(tmp_path / "other", "[]", kind="bundle"))
