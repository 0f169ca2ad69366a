"""A server process, real bundles, clients all the time: canaries come, err, lie, go live and go; nobody is failed."""

from __future__ import annotations

import math
import time

import httpx
import pytest
import tiny
from asking import Clients
from fake_model import until
from server_process import running

from noria.serving.bundle import version_of
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.update import update

pytestmark = pytest.mark.slow

SHORT, LONG = "好棒快", "好棒快赞优差慢坏烂破" * 4
ROWS = {"inputs": [{"text": SHORT}, {"text": LONG}]}


@pytest.fixture
def served(workspace, tmp_path):
    """A workspace whose own bundle is live, with its store, and the versions of three others: one errs, one lies."""
    with workspace.params.open("a") as file:
        file.write("deploy: {canary: 0.3, canary_requests: 50}\n")
    store = store_of(workspace)
    others = {
        "good": tiny.inverted_bundle(workspace.bundle, tmp_path / "good", honest=True),
        "brittle": tiny.brittle_bundle(workspace.bundle, tmp_path / "brittle", max_tokens=20),
        "liar": tiny.inverted_bundle(workspace.bundle, tmp_path / "liar"),
    }
    versions = {name: version_of(store.publish(bundle.path)) for name, bundle in others.items()}
    versions["own"] = version_of(store.publish(workspace.bundle))
    store.promote(versions["own"], reason="test", over=None)
    return Workspace.at(workspace.root), store, versions


def try_out(store, version, *, mode="canary", share=0.3):
    return store.try_out(version, mode=mode, share=share, reason="test", over=store.production())


def test_canaries_are_swapped_promoted_and_rolled_back_under_load_without_a_failed_or_mixed_answer(served):
    workspace, store, versions = served
    with (
        running(workspace) as at,
        httpx.Client(base_url=at.url, timeout=30) as client,
        Clients(at.url, body=ROWS) as clients,
    ):

        def ready():
            return client.get("/readyz").json()

        try_out(store, versions["liar"], share=0.5)
        until(lambda: "canary_not_served" in ready(), timeout_s=60)
        assert set(ready()["canary_not_served"].values()) == {versions["liar"]}
        assert set(clients.versions) == {versions["own"]}

        for share in (0.3, 0.2):
            try_out(store, versions["good"], share=share)
            until(lambda: ready().get("tried"), timeout_s=60)
            time.sleep(0.5)
            store.withdraw(reason="enough", over=store.production())
            until(lambda: "tried" not in ready(), timeout_s=5)
        assert clients.versions[versions["good"]] > 0

        try_out(store, versions["good"])
        until(lambda: ready().get("tried"), timeout_s=60)
        try_out(store, versions["brittle"])
        until(lambda: ready().get("tried", {}).get("tiny") == versions["brittle"], timeout_s=60)
        try_out(store, versions["good"], mode="shadow", share=1.0)
        until(lambda: ready().get("tried", {}).get("tiny") == versions["good"], timeout_s=60)
        try_out(store, versions["good"])
        until(lambda: ready().get("tried"), timeout_s=60)
        store.promote(versions["good"], reason="no worse", over=store.production())
        until(lambda: ready()["model_version"] == versions["good"], timeout_s=5)
        started = time.monotonic()
        store.rollback(reason="worse")
        until(lambda: ready()["model_version"] == versions["own"], timeout_s=5)
        rollback_s = time.monotonic() - started
    assert clients.wrong == []
    assert clients.versions.total() > 100
    assert {versions["liar"], versions["brittle"]} & set(clients.versions) == set()
    assert rollback_s < 5


def test_a_canary_that_errs_costs_no_answer_and_the_update_node_withdraws_it(served):
    workspace, store, versions = served
    live = try_out(store, versions["brittle"])
    with running(workspace) as process, httpx.Client(base_url=process.url, timeout=30) as client:
        until(lambda: client.get("/readyz").json().get("tried"), timeout_s=60)
        with Clients(process.url, body=ROWS) as clients:
            until(lambda: clients.versions.total() > 300, timeout_s=60)
    assert clients.wrong == []
    assert set(clients.versions) == {versions["own"]}
    observed = store.observed(live.canary)
    total = observed.champion.requests + observed.challenger.requests
    assert total == clients.versions.total()
    assert (observed.challenger.answers, observed.champion.errors) == (0, 0)
    assert abs(observed.challenger.errors - 0.3 * total) < 4 * math.sqrt(total * 0.3 * 0.7)
    update.fn(workspace)
    assert "it fails more often" in update.summary(workspace)
    assert store.production().canary is None
    assert store.journal.taken_back(versions["brittle"]) is not None


def test_a_canary_with_enough_clean_answers_goes_live_on_the_server_that_tried_it(served):
    workspace, store, versions = served
    live = try_out(store, versions["good"])
    with (
        running(workspace) as at,
        httpx.Client(base_url=at.url, timeout=30) as client,
        Clients(at.url, body=ROWS) as clients,
    ):
        until(lambda: client.get("/readyz").json().get("tried"), timeout_s=60)
        until(lambda: store.observed(live.canary).challenger.answers >= 50, timeout_s=60)
        update.fn(workspace)
        assert "it is no worse" in update.summary(workspace)
        until(lambda: client.get("/readyz").json()["model_version"] == versions["good"], timeout_s=5)
        update.fn(workspace)
    assert clients.wrong == []
    assert [event.kind for event in store.journal.events()].count("promoted") == 2


def test_a_shadow_is_seen_by_nobody_and_compared_with_the_champion(served):
    workspace, store, versions = served
    live = try_out(store, versions["good"], mode="shadow", share=1.0)
    with running(workspace) as process, httpx.Client(base_url=process.url, timeout=30) as client:
        until(lambda: client.get("/readyz").json().get("tried"), timeout_s=60)
        for _ in range(60):
            assert client.post("/predict", json={"text": SHORT}).json()["model_version"] == versions["own"]
            time.sleep(0.01)
    observed = store.observed(live.canary)
    assert observed.champion.answers == 60
    assert observed.challenger.answers > 20
    assert observed.challenger.same_rows == 0  # it says the opposite
    assert observed.challenger.other_rows == observed.challenger.answers
