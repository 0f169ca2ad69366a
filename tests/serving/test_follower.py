"""A server follows what goes live in its store, one version at a time, and keeps the old one in trouble."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
import tiny
from asking import Clients
from fake_model import FakePredictor, serving, until
from server_process import running
from test_server import served  # noqa: F401 - a fixture
from workspaces import noria

from noria.config import ServeConfig
from noria.errors import BundleError
from noria.serving.bundle import version_of
from noria.serving.follower import CanaryFollower, Follower
from noria.serving.live import Live
from noria.serving.metrics import Metrics
from noria.serving.store import ModelStore, store_of


class Loads:
    """Makes predictors of versions; those in `broken` fail."""

    def __init__(self):
        self.broken = {}
        self.loaded = []

    def __call__(self, store, version):
        self.loaded.append(version)
        if version in self.broken:
            raise self.broken[version]
        return FakePredictor(version)


class World:
    """A store with three versions, a model that is served, and what follows it."""

    def __init__(self, directory):
        self.store = ModelStore(str(directory / "store"), name="a", cache=directory / "cache")
        bundles = [tiny.opaque_bundle(directory / f"bundle{i}", f"model {i}") for i in range(3)]
        self.versions = [version_of(self.store.publish(bundle.path)) for bundle in bundles]
        self.live = Live("a", FakePredictor(self.versions[0]), config=ServeConfig(workers=1), metrics=Metrics())
        self.loads, self.now_s = Loads(), 0.0
        self.follower, self.canaries = (
            kind(self.live, self.store, load=self.loads, clock=lambda: self.now_s)
            for kind in (Follower, CanaryFollower)
        )
        self.promote(0)

    def promote(self, number):
        self.store.promote(self.versions[number], reason="test", over=self.store.production())

    def try_out(self, number, **way):
        way = {"mode": "canary", "share": 0.1, **way}
        self.store.try_out(self.versions[number], reason="test", over=self.store.production(), **way)

    def look(self):
        self.follower.look()
        self.canaries.look()

    @property
    def tried(self):
        trial = self.live.lineup.trial
        return trial and self.versions.index(trial.challenger.version)

    @property
    def served(self):
        return self.versions.index(self.live.predictor.version)

    def not_served(self):
        return [event.version for event in self.store.journal.events() if event.kind == "not-served"]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_what_goes_live_is_loaded_once_and_served(world):
    world.follower.look()
    assert (world.served, world.loads.loaded) == (0, [])
    world.promote(1)
    world.follower.look()
    world.follower.look()
    assert (world.served, world.loads.loaded) == (1, [world.versions[1]])


def test_a_rollback_loads_nothing(world):
    old = world.live.predictor
    world.promote(1)
    world.follower.look()
    world.store.rollback(reason="worse")
    world.follower.look()
    assert world.live.predictor is old
    assert world.loads.loaded == [world.versions[1]]


@pytest.mark.parametrize("error", [BundleError("damaged"), MemoryError("too large"), ValueError("odd")])
def test_a_version_that_fails_leaves_the_old_one_and_is_told_once(world, error, caplog):
    world.loads.broken[world.versions[1]] = error
    world.promote(1)
    for _ in range(5):
        world.follower.look()
    assert world.served == 0
    assert world.loads.loaded == [world.versions[1]]
    assert world.not_served() == [world.versions[1]]
    assert world.follower.not_served.reason == str(error)
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1


def test_it_is_tried_again_after_a_while_and_at_once_when_another_goes_live(world):
    world.loads.broken[world.versions[1]] = OSError("the disk is full")
    world.promote(1)
    world.follower.look()
    world.now_s += 59
    world.follower.look()
    assert len(world.loads.loaded) == 1
    world.promote(2)
    world.follower.look()
    assert (world.served, world.follower.not_served) == (2, None)
    world.promote(1)
    world.follower.look()
    assert (world.served, len(world.loads.loaded)) == (2, 3)
    world.loads.broken.clear()
    world.now_s += 61
    world.follower.look()
    assert (world.served, world.follower.not_served) == (1, None)
    assert world.not_served() == [world.versions[1]] * 2


def test_a_model_of_another_scenario_does_not_take_over(world):
    world.promote(1)
    other = FakePredictor(world.versions[1])
    other.bundle = SimpleNamespace(
        scenario=SimpleNamespace(name="translation"), artifact=SimpleNamespace(path=world.store.place())
    )
    Follower(world.live, world.store, load=lambda store, version: other).look()
    assert world.served == 0


def test_a_store_that_is_gone_changes_nothing_and_is_told_once(world, caplog):
    pointer = world.store.place() + "/production.json"
    shutil.copy(pointer, pointer + ".kept")
    with open(pointer, "w") as file:  # noqa: PTH123 - half a pointer
        file.write("{")
    for _ in range(3):
        world.follower.look()
    assert world.served == 0
    assert len([record for record in caplog.records if "does not say what is live" in record.message]) == 1
    shutil.move(pointer + ".kept", pointer)
    world.promote(1)
    world.follower.look()
    assert world.served == 1


def test_a_canary_is_loaded_once_and_tried_until_it_is_withdrawn(world):
    world.try_out(1)
    for _ in range(3):
        world.look()
    assert (world.served, world.tried, world.loads.loaded) == (0, 1, [world.versions[1]])
    world.store.withdraw(reason="worse", over=world.store.production())
    world.look()
    assert (world.served, world.tried) == (0, None)


def test_a_canary_that_goes_live_is_there_already_whoever_looks_first(world):
    for first, second in ((world.follower, world.canaries), (world.canaries, world.follower)):
        world.try_out(1)
        world.look()
        challenger = world.live.lineup.trial.challenger.predictor
        world.promote(1)
        first.look()
        second.look()
        assert (world.live.predictor, world.tried) == (challenger, None)
        world.store.rollback(reason="again")
        world.look()
    assert world.loads.loaded == [world.versions[1]] * 2


def test_another_canary_takes_the_place_and_none_outlives_its_champion(world):
    world.try_out(1)
    world.look()
    before = world.live.lineup.trial
    world.try_out(2, mode="shadow", share=1.0)
    world.look()
    assert (world.tried, world.live.lineup.trial.canary.mode) == (2, "shadow")
    assert world.live.lineup.trial.champion.tally is not before.champion.tally  # what is compared is counted together
    world.promote(1)
    world.look()
    assert (world.served, world.tried) == (1, None)


def test_a_canary_that_fails_is_told_once_and_leaves_the_champion_alone(world, caplog):
    world.loads.broken[world.versions[1]] = BundleError("it lies")
    world.try_out(1)
    for _ in range(3):
        world.look()
    assert (world.served, world.tried, world.loads.loaded) == (0, None, [world.versions[1]])
    assert (world.canaries.not_served.reason, world.follower.not_served) == ("it lies", None)
    assert world.not_served() == [world.versions[1]]
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1
    world.loads.broken.clear()
    world.now_s += 61
    world.look()
    assert (world.tried, world.canaries.not_served) == (1, None)
    world.store.withdraw(reason="enough", over=world.store.production())
    world.look()
    assert world.canaries.not_served is None


def test_what_was_withdrawn_while_it_was_loaded_is_not_tried(world):
    def withdrawn_meanwhile(store, version):
        store.withdraw(reason="worse", over=store.production())
        return FakePredictor(version)

    world.try_out(1)
    CanaryFollower(world.live, world.store, load=withdrawn_meanwhile).look()
    assert world.tried is None


def test_beside_a_champion_that_is_not_the_store_s_nothing_is_tried(world):
    world.loads.broken[world.versions[1]] = BundleError("damaged")
    world.promote(1)
    world.try_out(2)
    world.look()
    assert (world.served, world.tried) == (0, None)
    assert world.loads.loaded == [world.versions[1]]


def test_a_champion_that_changes_while_a_canary_is_loaded_is_not_compared_with_it(world):
    def overtaken(store, version):
        world.live.predictor = FakePredictor(world.versions[2])
        return FakePredictor(version)

    world.try_out(1)
    CanaryFollower(world.live, world.store, load=overtaken).look()
    assert (world.served, world.tried) == (2, None)


def test_a_request_keeps_the_version_that_it_began_with():
    hold = threading.Event()
    old, new = FakePredictor("v1", hold=hold), FakePredictor("v2")
    with serving({"a": old}, workers=2, max_wait_ms=20_000) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{server.url}/predict", json={"inputs": [{"text": "a"}, {"text": "b"}]})
        until(lambda: old.batches)
        server.app.state.models["a"].predictor = new
        assert server.client.post("/predict", json={"text": "c"}).json()["model_version"] == "v2"
        hold.set()
        answer = first.result().json()
        assert {answer["model_version"], *(one["model_version"] for one in answer["outputs"])} == {"v1"}


@pytest.mark.slow
def test_under_load_versions_change_without_an_error_and_a_liar_stays_out(served, optimized, tmp_path):  # noqa: F811
    store = store_of(served)
    first = store.production().version
    second = version_of(store.publish(tiny.inverted_bundle(optimized.bundle, tmp_path / "second", honest=True).path))
    liar = version_of(store.publish(tiny.inverted_bundle(optimized.bundle, tmp_path / "liar").path))
    with (
        running(served) as process,
        httpx.Client(base_url=process.url, timeout=30) as client,
        Clients(process.url, body={"inputs": [{"text": "好棒快"}, {"text": "差坏烂"}]}) as clients,
    ):

        def version():
            return client.get("/readyz").json()["model_version"]

        label = client.post("/predict", json={"text": "好棒快"}).json()["label"]
        store.promote(second, reason="try it", over=store.production())
        until(lambda: version() == second, timeout_s=60)
        assert client.post("/predict", json={"text": "好棒快"}).json()["label"] != label
        started = time.monotonic()
        store.rollback(reason="worse")
        until(lambda: version() == first, timeout_s=5)
        rollback_s = time.monotonic() - started
        store.promote(liar, reason="oops", over=store.production())
        until(lambda: "not_served" in client.get("/readyz").json(), timeout_s=60)
        said = client.get("/readyz").json()
        assert (said["status"], said["model_version"]) == ("ready", first)
        (missed,) = said["not_served"].values()
        assert missed == liar
        assert client.post("/predict", json={"text": "好棒快"}).json()["label"] == label
        store.rollback(reason="it lies")
        until(lambda: "not_served" not in client.get("/readyz").json(), timeout_s=10)
    assert clients.wrong == []
    assert clients.versions.total() > 50
    assert rollback_s < 5
    assert [event.version for event in store.journal.events() if event.kind == "not-served"] == [liar]


@pytest.mark.slow
def test_a_liar_is_not_served_by_a_server_that_starts_either(served, optimized, tmp_path):  # noqa: F811
    liar = version_of(store_of(served).publish(tiny.inverted_bundle(optimized.bundle, tmp_path / "liar").path))
    done = noria("serve", "--port", "0", "--version", liar, cwd=served.root)
    assert done.returncode == BundleError.exit_code
    assert "does not answer as it did when it was made" in done.stderr
