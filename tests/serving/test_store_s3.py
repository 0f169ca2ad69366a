"""The store on a real S3 server: the same promises as in a directory."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import s3fs
import tiny
from fake_model import FakePredictor
from s3_server import s3_server

from noria.errors import StoreError
from noria.serving.bundle import read_bundle, version_of
from noria.serving.lineup import Lineup, Serving, Trial
from noria.serving.objects import open_objects
from noria.serving.observer import Observer
from noria.serving.store import ModelStore

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The URL of an empty bucket; the environment leads to its server."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("models")
        yield "s3://models"


@pytest.fixture
def store(bucket, tmp_path, request) -> ModelStore:
    return ModelStore(f"{bucket}/team", name=request.node.name.replace("_", "-"), cache=tmp_path / "cache")


@pytest.fixture
def versions(store, tmp_path) -> list[str]:
    bundles = [tiny.opaque_bundle(tmp_path / f"bundle{i}", f"model {i}") for i in range(3)]
    return [version_of(store.publish(bundle.path)) for bundle in bundles]


def test_versions_promotion_and_rollback_on_s3(store, versions, tmp_path):
    assert store.versions() == sorted(versions)
    assert version_of(store.publish(tmp_path / "bundle0")) == versions[0]
    for version in versions:
        store.promote(version, reason="next", over=store.production())
    assert store.rollback(reason="worse").version == versions[1]
    assert store.production().previous == (versions[0],)
    kinds = [event.kind for event in store.journal.events()]
    assert kinds == ["published"] * 3 + ["promoted"] * 3 + ["rolled-back"]
    elsewhere = ModelStore(store.url, name=store.name, cache=tmp_path / "another machine")
    assert elsewhere.fetch(versions[0]) == elsewhere.fetch(versions[0])
    assert read_bundle(elsewhere.fetch(versions[0]).path).digest[:12] == versions[0]
    with pytest.raises(StoreError, match="there is no version"):
        elsewhere.fetch("0123456789ab")


def test_a_canary_is_observed_and_goes_live_on_s3(store, versions, tmp_path):
    first, second, _ = versions
    store.promote(first, reason="first", over=None)
    live = store.try_out(second, mode="canary", share=0.1, reason="better", over=store.production())
    trial = Trial(live.canary, Serving(FakePredictor(first)), Serving(FakePredictor(second)))
    observer = Observer(open_objects(store.url), store.name)
    for _ in range(3):
        trial.challenger.tally.answered([], seconds=0.01)
        observer.write(Lineup(trial.champion, trial))
    elsewhere = ModelStore(store.url, name=store.name, cache=tmp_path / "another machine")
    assert elsewhere.production() == live
    assert elsewhere.observed(live.canary).challenger.answers == 3
    assert elsewhere.promote(second, reason="no worse", over=live).canary is None
    assert store.promote(second, reason="no worse", over=live) == store.production()
    assert [event.kind for event in store.journal.events()][-3:] == ["promoted", "canary", "promoted"]


def test_a_damaged_copy_on_this_machine_is_fetched_anew(store, versions):
    copy = store.fetch(versions[0]).path
    (copy / "model.onnx").write_text("damaged")
    assert store.fetch(versions[0]).path == copy
    (copy / "manifest.json").write_text("{")
    assert version_of(store.fetch(versions[0])) == versions[0]


def test_checkpoints_on_s3_are_found_on_another_machine_and_mended(store, tmp_path):
    checkpoint = tiny.opaque_checkpoint(tmp_path / "checkpoint", "weights")
    for _ in range(2):
        assert store.checkpoints.publish(checkpoint.path).files == checkpoint.files
    assert store.checkpoints.names() == [checkpoint.digest]
    assert store.versions() == []
    elsewhere = ModelStore(store.url, name=store.name, cache=tmp_path / "another machine")
    copy = elsewhere.checkpoints.fetch(checkpoint.digest).path
    (copy / "model.safetensors").write_text("damaged")
    assert elsewhere.checkpoints.fetch(checkpoint.digest).path == copy
    s3 = s3fs.S3FileSystem(skip_instance_cache=True)
    stored = f"{store.checkpoints.place(checkpoint.digest).removeprefix('s3://')}/model.safetensors"
    s3.pipe_file(stored, b"damaged in the store")
    third = ModelStore(store.url, name=store.name, cache=tmp_path / "a third machine")
    with pytest.raises(StoreError, match="can't be trusted"):
        third.checkpoints.fetch(checkpoint.digest)
    assert third.checkpoints.publish(checkpoint.path).digest == checkpoint.digest


def test_of_racing_promotions_on_s3_one_wins(store, versions, tmp_path):
    champion = store.promote(versions[0], reason="first", over=None)
    start, won, lost = threading.Barrier(6), [], []

    def race(i: int) -> None:
        own = ModelStore(store.url, name=store.name, cache=tmp_path / f"racer{i}")
        start.wait()
        try:
            won.append(own.promote(versions[1 + i % 2], reason="race", over=champion))
        except StoreError as error:
            assert "came in between" in str(error)
            lost.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert store.production() == won[0]


@pytest.mark.parametrize(
    ("variable", "wrong"), [("AWS_SECRET_ACCESS_KEY", "wrong"), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]
)
def test_a_wrong_key_and_an_unreachable_server_are_clear_errors(bucket, tmp_path, monkeypatch, variable, wrong):
    monkeypatch.setenv(variable, wrong)
    store = ModelStore(bucket, name="x", cache=tmp_path)
    for ask in (store.production, lambda: store.publish(tiny.opaque_bundle(tmp_path / "bundle", "model").path)):
        with pytest.raises(StoreError, match="does not answer as it should"):
            ask()


def test_a_bundle_is_deployed_to_s3_promoted_and_asked(workspace, bucket):
    with workspace.params.open("a") as file:
        file.write(f"deploy: {{store: {bucket}/deployed}}\n")
    for command in ("-m tasks.deploy", "-m tasks.update"):
        subprocess.run([sys.executable, *command.split(), "-C", str(workspace.root)], check=True)
    program = "import sys; from noria.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "predict", "好棒", "--json", "-C", str(workspace.root)]
    assert '"model_version"' in subprocess.run(command, check=True, capture_output=True, text=True).stdout
