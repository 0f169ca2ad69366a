"""Only what the owner of a key signed goes live, is fetched or passes for verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny
from keys import KeyPair, key_pair

from noria.artifacts import MANIFEST
from noria.errors import BundleError, ConfigError, StoreError
from noria.serving.bundle import version_of
from noria.serving.store import ModelStore


@pytest.fixture
def keys(tmp_path: Path) -> KeyPair:
    return key_pair(tmp_path, "team")


@pytest.fixture
def store(tmp_path: Path, keys: KeyPair) -> ModelStore:
    return ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache", public_key=keys.public)


@pytest.fixture
def version(store: ModelStore, tmp_path: Path) -> str:
    return version_of(store.publish(tiny.opaque_bundle(tmp_path / "bundle", "model").path))


def test_an_unsigned_version_is_neither_fetched_nor_live(store: ModelStore, version: str) -> None:
    with pytest.raises(BundleError, match="not signed"):
        store.fetch(version)
    with pytest.raises(BundleError, match="not signed"):
        store.promote(version, reason="it is good", over=None)
    assert store.production() is None


def test_a_signed_version_goes_live_and_signing_again_changes_nothing(
    store: ModelStore, version: str, keys: KeyPair
) -> None:
    store.sign(version, keys.private)
    store.sign(version, keys.private)
    assert store.promote(version, reason="it is good", over=None).version == version
    assert version_of(store.fetch(version)) == version


def test_the_signature_of_somebody_else_is_refused_until_the_owner_signs(
    store: ModelStore, version: str, keys: KeyPair, tmp_path: Path
) -> None:
    store.sign(version, key_pair(tmp_path, "stranger").private)
    with pytest.raises(BundleError, match="not that of this bundle by this key"):
        store.fetch(version)
    store.sign(version, keys.private)
    store.fetch(version)


def test_a_signature_covers_the_facts_too(store: ModelStore, version: str, keys: KeyPair) -> None:
    store.sign(version, keys.private)
    manifest = Path(store.place(version)) / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "facts": {"metrics": {"accuracy": 1.0}}}))
    with pytest.raises(BundleError, match="not that of this bundle"):
        store.fetch(version)


def test_every_flipped_byte_of_a_signature_is_refused(store: ModelStore, version: str, keys: KeyPair) -> None:
    store.sign(version, keys.private)
    path = Path(store.url) / "reviews" / "signatures" / version
    signature = path.read_bytes()
    for place in range(len(signature)):
        path.write_bytes(signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :])
        with pytest.raises(BundleError, match="not that of this bundle"):
            store.fetch(version)


def test_what_is_damaged_or_unknown_is_not_signed(store: ModelStore, version: str, keys: KeyPair) -> None:
    with pytest.raises(StoreError, match="no version"):
        store.sign("0" * 12, keys.private)
    (Path(store.place(version)) / "model.onnx").write_text("another")
    with pytest.raises(BundleError, match="can't be trusted"):
        store.sign(version, keys.private)


def test_what_is_no_key_is_told_with_the_command_that_makes_one(
    store: ModelStore, version: str, keys: KeyPair, tmp_path: Path
) -> None:
    other = key_pair(tmp_path, "other", "x25519")
    (tmp_path / "empty.pem").touch()
    for path in (keys.public, other.private, tmp_path / "empty.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=r"no private Ed25519 key|can't be read"):
            store.sign(version, path)
    store.sign(version, keys.private)
    for path in (keys.private, other.public, tmp_path / "empty.pem", tmp_path / "missing.pem"):
        with pytest.raises(ConfigError, match=r"no public Ed25519 key|can't be read"):
            store.check_signature(version, path)


def test_a_rollback_passes_over_what_is_not_signed(store: ModelStore, keys: KeyPair, tmp_path: Path) -> None:
    versions = [version_of(store.publish(tiny.opaque_bundle(tmp_path / str(i), f"model {i}").path)) for i in range(3)]
    keyless = ModelStore(store.url, name=store.name, cache=tmp_path / "cache")
    for version in versions:
        keyless.promote(version, reason="before the key", over=keyless.production())
    for version in (versions[0], versions[2]):
        store.sign(version, keys.private)
    assert store.rollback(reason="worse").version == versions[0]


def test_a_signature_of_one_model_is_none_of_another(
    store: ModelStore, version: str, keys: KeyPair, tmp_path: Path
) -> None:
    store.sign(version, keys.private)
    shutil.copytree(Path(store.url) / "reviews", Path(store.url) / "films")
    films = ModelStore(store.url, name="films", cache=tmp_path / "cache", public_key=keys.public)
    with pytest.raises(BundleError, match="not that of this bundle"):
        films.fetch(version)


def test_a_deployment_vouches_for_what_it_made_and_for_nothing_that_was_there(
    store: ModelStore, version: str, keys: KeyPair, tmp_path: Path
) -> None:
    manifest = Path(store.place(version)) / MANIFEST
    honest = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(honest), "facts": {"checkpoint_digest": "another"}}))
    with pytest.raises(BundleError, match="not signed"):
        store.sign(version, keys.private, made=tmp_path / "bundle")
    manifest.write_text(honest)
    store.sign(version, keys.private, made=tmp_path / "bundle")
    later = tmp_path / "bundle" / MANIFEST  # the same model, made again on a slower day
    later.write_text(json.dumps({**json.loads(honest), "facts": {"latency_ms": 9}}))
    store.sign(version, keys.private, made=tmp_path / "bundle")
    assert version_of(store.fetch(version)) == version


def test_what_only_looks_asks_for_no_signature(store: ModelStore, version: str) -> None:
    assert version_of(store.fetch(version, signed=False)) == version
