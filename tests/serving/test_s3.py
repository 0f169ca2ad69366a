"""A store on a real S3 server behind a network that fails: nothing is lost, doubled, or taken for what it is not."""

from __future__ import annotations

import logging
import time
from collections import Counter

import pytest
import s3fs
import tiny
import workspaces
from faulty_proxy import SLOW_S, faulty
from s3_server import s3_server

from noria.errors import StoreError
from noria.preflight import check_ready
from noria.serving import s3
from noria.serving.bundle import version_of
from noria.serving.objects import open_objects
from noria.serving.store import ModelStore
from noria.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("s3")
    with s3_server(directory) as server, faulty(server) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in {**server.environment, "AWS_ENDPOINT_URL": proxy.url}.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("models")
        yield proxy


@pytest.fixture
def objects(proxy, request):
    opened = open_objects(f"s3://models/{request.node.name}")
    opened.check()
    proxy.seen.clear()
    yield opened
    proxy.will()
    proxy.strips = ()


@pytest.mark.parametrize("fault", ["500", "503", "reset", "unanswered"])
def test_what_fails_for_a_moment_is_asked_again(objects, proxy, fault):
    def with_faults(ask):
        proxy.will(fault, fault)
        answer = ask()
        assert proxy.is_done
        return answer

    # done, and said to be done, although the first answers were lost
    assert with_faults(lambda: objects.create("model/pointer", b"1"))
    tag = with_faults(lambda: objects.read("model/pointer")).tag
    assert with_faults(lambda: objects.swap("model/pointer", b"2", tag))
    assert objects.read("model/pointer").data == b"2"
    assert with_faults(lambda: objects.names("model")) == ["pointer"]


def test_patience_has_bounds(objects, proxy):
    proxy.will(*["503"] * 50)
    with pytest.raises(StoreError, match="does not answer as it should"):
        objects.read("pointer")
    assert len(proxy.seen) == 5


def test_a_slow_answer_is_given_up_and_asked_for_again(proxy, monkeypatch):
    monkeypatch.setattr(s3, "_READ_S", 1.0)
    objects = open_objects("s3://models/slow")
    assert objects.create("pointer", b"1")
    proxy.will("slow")
    started = time.monotonic()
    assert objects.read("pointer").data == b"1"
    assert time.monotonic() - started < SLOW_S + 1
    assert proxy.is_done


@pytest.mark.parametrize("fault", ["cut", "corrupt"])
def test_a_body_that_broke_off_or_changed_on_its_way_is_read_again(objects, proxy, fault):
    objects.create("pointer", b"what is live")
    proxy.will(fault, fault)
    assert objects.read("pointer").data == b"what is live"
    assert proxy.is_done
    proxy.will(*[fault] * 50)
    with pytest.raises(StoreError, match="does not answer as it should"):
        objects.read("pointer")


def test_a_lost_race_is_not_taken_for_an_answer_that_was_lost(objects, proxy):
    assert objects.create("pointer", b"theirs")
    for attempt in (lambda: objects.create("pointer", b"ours"), lambda: objects.swap("pointer", b"ours", '"another"')):
        proxy.will("503")
        assert not attempt()
    assert objects.read("pointer").data == b"theirs"


@pytest.mark.parametrize("fault", ["cut", "corrupt"])
def test_the_files_of_a_bundle_are_what_its_manifest_says_or_fetched_again(objects, proxy, tmp_path, fault):
    bundle = tiny.opaque_bundle(tmp_path / "bundle", "weights" * 1_000)
    objects.put_tree(bundle.path, "version")
    proxy.will(fault, fault, only=lambda method, path: method == "GET" and path.endswith("/model.onnx"))
    copy = objects.get_tree("version", tmp_path / "elsewhere")
    assert proxy.is_done
    assert (copy / "model.onnx").read_bytes() == (bundle.path / "model.onnx").read_bytes()


def test_a_promotion_whose_answers_are_lost_happens_once_and_is_told_once(proxy, tmp_path):
    store = ModelStore("s3://models/once", name="reviews", cache=tmp_path / "cache")
    version = version_of(store.publish(tiny.opaque_bundle(tmp_path / "bundle", "model").path))
    proxy.will(*["unanswered"] * 3, only=lambda method, path: method == "PUT")
    live = store.promote(version, reason="better", over=None)
    assert proxy.is_done
    assert store.production() == live
    assert Counter(event.kind for event in store.journal.events()) == {"published": 1, "promoted": 1}


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_conditional_puts_is_refused_before_anything_is_promoted(proxy, tmp_path, header):
    s3._checked.clear()
    store = ModelStore(f"s3://models/{header}", name="reviews", cache=tmp_path / "cache")
    bundle = tiny.opaque_bundle(tmp_path / "bundle", "model")
    proxy.strips = (header.lower(),)
    try:
        with pytest.raises(StoreError, match=f"ignores `{header}`"):
            store.publish(bundle.path)
        assert store.production() is None
        proxy.strips = ()
        live = store.promote(version_of(store.publish(bundle.path)), reason="first", over=None)
        assert store.production() == live
    finally:
        proxy.strips = ()


def test_a_run_asks_its_store_before_it_begins(proxy, tmp_path):
    root = workspaces.make_workspace(tmp_path / "ws", workspaces.good_rows(20))
    workspaces.change_params(root, {"deploy": {"store": "s3://models/asked"}})
    check_ready(Workspace.at(root))
    s3._checked.clear()
    proxy.strips = ("if-match",)
    try:
        with pytest.raises(StoreError, match="ignores `If-Match`"):
            check_ready(Workspace.at(root))
    finally:
        proxy.strips = ()


def test_conditional_puts_are_probed_once_a_process(proxy):
    s3._checked.clear()
    proxy.seen.clear()
    for number in range(3):
        open_objects("s3://models/probed").create(f"object{number}", b"")
    probes = [path for _, path in proxy.seen if path.endswith(s3._PROBE)]
    assert len(probes) == 3


def test_no_log_and_no_error_holds_a_credential(proxy, monkeypatch, caplog):
    secret, key = "do-not-tell/anybody+this=", "AKIADONOTTELL"
    for logger in ("noria", "s3fs", "fsspec"):
        caplog.set_level(logging.DEBUG, logger=logger)
    objects = open_objects("s3://models/told")
    proxy.will("503", "cut")
    assert objects.create("pointer", b"1") and objects.read("pointer")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    errors = []
    for ask in (lambda: open_objects("s3://models/x").read("y"), lambda: open_objects(f"s3://{key}:{secret}@models/x")):
        with pytest.raises(StoreError) as caught:
            ask()
        errors.append(str(caught.value))
    assert "credentials" in errors[1]
    told = caplog.text + "".join(errors)
    assert "s3fs" in caplog.text, "its loggers were listened to"
    for word in (secret, key, proxy.server.secret_key, proxy.server.access_key):
        assert word not in told
