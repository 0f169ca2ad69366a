"""Feedback is validated, kept once and for all, counted, and never more than a disk can hold."""

from __future__ import annotations

import json

import pytest
from asked import model_of
from fake_model import FakePredictor, serving
from test_routes import samples

from noria.errors import StoreError
from noria.serving import rate
from noria.serving.clients import client_of
from noria.serving.feedback import Shelf
from noria.serving.objects import LocalObjects
from noria.serving.rate import Rates
from noria.serving.refusal import Refusal
from noria.serving.store import ModelStore

SAID = {
    "model": "a",
    "request": {"text": "很好"},
    "response": {"label": "neg", "scores": {"neg": 0.7, "pos": 0.3}},
    "request_id": "8f1c",
    "model_version": "0123456789ab",
    "is_right": False,
    "correction": "pos",
}


@pytest.fixture
def store(tmp_path):
    return ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")


@pytest.fixture
def running(store):
    """A model that follows a store, and one that follows none."""
    with serving({"a": FakePredictor(), "b": FakePredictor()}, followed={"a": store}, max_body_bytes=5_000) as server:
        yield server


def kept(tmp_path):
    """What lies in the store, in order of time."""
    return [json.loads(file.read_text()) for file in sorted((tmp_path / "store" / "reviews" / "feedback").glob("*"))]


def test_feedback_is_one_object_in_the_store_and_counted(running, tmp_path):
    answers = [running.client.post("/feedback", json=SAID) for _ in range(2)]
    right = {key: value for key, value in SAID.items() if key != "correction"} | {"is_right": True}
    answers.append(running.client.post("/feedback", json=right))
    assert [answer.status_code for answer in answers] == [201] * 3
    events = kept(tmp_path)
    assert [event["id"] for event in events] == [answer.json()["id"] for answer in answers]
    assert {key: events[0][key] for key in SAID} == SAID
    assert (events[2]["is_right"], events[2]["correction"]) == (True, None)
    assert events[0]["time"] < events[1]["time"]
    found = samples(running)
    assert found["noria_feedback_total", "a", "wrong"] == 2
    assert found["noria_feedback_total", "a", "right"] == 1
    assert found["noria_requests_total", "/feedback", "201"] == 3


@pytest.mark.parametrize(
    ("change", "status", "what"),
    [
        ({"model": "c"}, 422, "no such model"),
        ({"model": "b"}, 409, "feedback on b has no place"),
        ({"request": {}}, 422, "`request.text`: Field required"),
        ({"request": {"text": ""}}, 422, "`request.text`"),
        ({"request": {"text": "x" * 20_001}}, 422, "`request.text`"),
        ({"request": {"text": "x", "more": 1}}, 422, "`request.more`"),
        ({"response": {"label": "neg"}}, 422, "`response.scores`"),
        ({"response": {"label": "neg", "scores": {"neg": "many"}}}, 422, "`response.scores.neg`"),
        ({"request_id": "a b"}, 422, "`request_id`"),
        ({"request_id": "x\n"}, 422, "`request_id`"),
        ({"model_version": "../up"}, 422, "`model_version`"),
        ({"is_right": "yes"}, 422, "`is_right`"),
        ({"is_right": True}, 422, "no correction"),
        ({"correction": ""}, 422, "`correction`"),
        ({"correction": "x" * 20_001}, 422, "`correction`"),
        ({"more": 1}, 422, "`more`"),
    ],
)
def test_what_is_wrong_with_feedback_is_told_and_nothing_is_kept(running, tmp_path, change, status, what):
    answer = running.client.post("/feedback", json=SAID | change)
    assert answer.status_code == status, answer.text
    assert what in answer.json()["error"]["what"]
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (json.dumps(SAID).replace("0.7", "1e999").encode(), 422),
        (json.dumps(SAID).replace("0.7", "NaN").encode(), 400),
        (json.dumps(SAID).replace("neg", "\\ud800").encode(), 422),
        (json.dumps(SAID | {"correction": "x" * 300_000}).encode(), 413),
    ],
)
def test_a_hostile_body_is_refused(running, tmp_path, body, status):
    answer = running.client.post("/feedback", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert kept(tmp_path) == []


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_page_of_another_origin_can_not_speak_for_its_visitors(running, tmp_path, kind):
    answer = running.client.post("/feedback", content=json.dumps(SAID), headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert "access-control-allow-origin" not in answer.headers
    preflight = running.client.options("/feedback", headers={"Origin": "https://evil.example.org"})
    assert preflight.status_code == 405
    assert kept(tmp_path) == []


def test_only_what_the_types_of_the_scenario_have_is_kept(running, tmp_path):
    response = SAID["response"] | {"model_version": "x", "junk": "y"}
    assert running.client.post("/feedback", json=SAID | {"response": response}).status_code == 201
    assert kept(tmp_path)[0]["response"] == SAID["response"]


def test_an_image_is_kept_as_it_was_sent(store, tmp_path):
    with serving({"digits": model_of("image-classification")}, followed={"digits": store}) as running:
        request = running.client.get("/about").json()["models"][0]["example"]
        answer = running.client.post("/predict", json=request)
        said = SAID | {"model": "digits", "request": request, "response": answer.json(), "correction": "1"}
        assert running.client.post("/feedback", json=said).status_code == 201
        assert running.client.post("/feedback", json=said | {"request": {"image": "bm8="}}).status_code == 422
    (event,) = kept(tmp_path)
    assert event["request"] == request


def test_a_server_that_follows_no_store_keeps_none_and_says_how_it_would():
    with serving({"a": FakePredictor()}) as running:
        answer = running.client.post("/feedback", json=SAID)
        assert answer.status_code == 409
        assert "without --version" in answer.json()["error"]["next"]


def test_a_store_that_can_not_be_written_is_no_breakdown(running, monkeypatch):
    def full(self, key, data):
        raise StoreError("the disk is full")

    monkeypatch.setattr(LocalObjects, "create", full)
    answer = running.client.post("/feedback", json=SAID)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")


def test_a_client_that_says_too_much_has_to_wait(running, tmp_path):
    statuses = [running.client.post("/feedback", json=SAID).status_code for _ in range(23)]
    assert statuses == [201] * 20 + [429] * 3
    assert len(kept(tmp_path)) == 20
    assert int(running.client.post("/feedback", json=SAID).headers["Retry-After"]) in range(1, 6)
    assert running.client.post("/predict", json=SAID["request"]).status_code == 200


def test_rates_refill_and_are_of_each_network_and_few():
    now_s = 0.0
    rates = Rates(max_bytes=1_000, clock=lambda: now_s)
    for _ in range(20):
        rates.come(client_of("2001:db8::1"))
    with pytest.raises(Refusal) as refused:
        rates.come(client_of("2001:db8::2"))
    assert refused.value.retry_after_s == 5
    rates.come(client_of("2001:db8:1::1"))
    now_s += 5
    rates.come(client_of("2001:db8::3"))
    for number in range(3 * rate._MOST_CLIENTS):
        rates.come(f"10.0.{number // 250}.{number % 250}")
    assert len(rates._by_client) == rate._MOST_CLIENTS


def test_all_clients_together_can_not_fill_a_disk():
    now_s = 0.0
    rates = Rates(max_bytes=1_000_000, clock=lambda: now_s)
    for _ in range(50):
        rates.hold(1_000_000)
    with pytest.raises(Refusal):
        rates.hold(1_000_000)
    now_s = 86_400.0
    for _ in range(50):
        rates.hold(1_000_000)
    with pytest.raises(Refusal):
        rates.hold(1_000_000)


def test_files_that_are_short_take_a_block_of_the_disk_each():
    rates = Rates(max_bytes=1_000, clock=lambda: 0.0)
    with pytest.raises(Refusal):
        for _ in range(13_000):
            rates.hold(1)


def test_a_body_as_long_as_may_be_is_held_even_where_that_is_much():
    Rates(max_bytes=200_000_000).hold(200_000_000)


def test_no_event_takes_the_place_of_another(tmp_path):
    shelf = Shelf(LocalObjects(tmp_path), "reviews")
    names = [shelf.keep({"n": number}) for number in range(50)]
    files = sorted((tmp_path / "reviews" / "feedback").iterdir())
    assert [json.loads(file.read_text())["id"] for file in files] == names
