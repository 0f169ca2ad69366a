"""A server under load: refusals that say when to come again, no work for clients who left, an end without loss."""

import asyncio
import json
import logging
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest
from fake_model import EXAMPLE, FakePredictor, serving, until

from noria.serving.server import _Server

LINES = {"Accept": "application/x-ndjson"}


@pytest.fixture
def hold():
    """Holds up the model until it is set; set at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


def post(running, text, **more):
    """One answer, on a connection of its own."""
    return httpx.post(f"{running.url}/predict", json={"text": text}, timeout=20, **more)


def live_of(running):
    return running.app.state.models["a"]


def test_what_comes_while_the_queue_is_full_is_refused_at_once_and_the_rest_is_answered(hold):
    predictor = FakePredictor(hold=hold)
    with (
        serving({"a": predictor}, max_requests=5, max_client_share=1, max_wait_ms=20_000) as running,
        ThreadPoolExecutor(5) as pool,
    ):
        inside = [pool.submit(post, running, f"text {i}") for i in range(5)]
        until(lambda: live_of(running).admission.num_requests == 5)
        started = time.monotonic()
        refused = [post(running, "more") for _ in range(20)]
        assert time.monotonic() - started < 5
        hold.set()
        for answer in refused:
            assert answer.status_code == 429
            assert int(answer.headers["Retry-After"]) >= 1
            assert "too much to do" in answer.json()["error"]["what"]
        assert sorted(answer.result().json()["label"] for answer in inside) == [f"text {i}" for i in range(5)]
        assert post(running, "again").status_code == 200


def test_a_request_whose_wait_would_be_too_long_is_refused_before_it_waits():
    predictor = FakePredictor(seconds=0.15)
    with serving({"a": predictor}, max_wait_ms=100, batch_tokens=1) as running, ThreadPoolExecutor(16) as pool:
        for _ in range(3):
            post(running, "measured")
        answers = list(pool.map(partial(post, running), ["0123456789"] * 16))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) <= {200, 429, 503}
        assert 200 in statuses
        assert 429 in statuses
        admitted_s = [answer.elapsed.total_seconds() for answer in answers if answer.status_code == 200]
        assert max(admitted_s) < 1.5
        assert live_of(running).admission.wait_s == 0


def test_a_request_that_waited_too_long_is_given_up(hold):
    with serving({"a": FakePredictor(hold=hold)}, max_wait_ms=200) as running, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, running, "first")
        until(lambda: live_of(running).admission.num_requests == 1)
        late = post(running, "late")
        assert late.status_code == 503
        assert "waited too long" in late.json()["error"]["what"]
        assert int(late.headers["Retry-After"]) >= 1
        hold.set()
        assert first.result().status_code == 200


@pytest.mark.parametrize("headers", [{}, LINES], ids=["whole", "lines"])
def test_a_client_that_leaves_frees_its_place_and_is_not_computed(hold, headers):
    predictor = FakePredictor(hold=hold)
    with serving({"a": predictor}, max_wait_ms=20_000) as running, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, running, "first")
        until(lambda: predictor.batches)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{running.url}/predict", json={"inputs": [EXAMPLE] * 3}, headers=headers, timeout=0.3)
        until(lambda: live_of(running).admission.num_requests == 1)
        assert live_of(running).batcher.num_waiting == 0
        hold.set()
        assert first.result().status_code == 200
        assert predictor.batches == [["first"]]


def test_an_error_in_one_request_fails_no_other_of_its_batch(hold):
    predictor = FakePredictor(hold=hold)
    with serving({"a": predictor}, max_wait_ms=20_000) as running, ThreadPoolExecutor(4) as pool:
        first = pool.submit(post, running, "first")
        until(lambda: predictor.batches)
        others = [pool.submit(post, running, text) for text in ("good", "fail", "fine")]
        until(lambda: live_of(running).batcher.num_waiting == 3)
        hold.set()
        assert [answer.result().status_code for answer in (first, *others)] == [200, 200, 500, 200]
        assert set(predictor.batches[1]) == {"good", "fail", "fine"}
        assert "the model failed" in others[1].result().json()["error"]["what"]


def test_lines_come_in_order_each_as_soon_as_it_is_there():
    first_is_read = threading.Event()

    class Slow(FakePredictor):
        def answer_encoded(self, batch):
            assert batch[0].row["text"] == "one" or first_is_read.wait(timeout=20)
            return super().answer_encoded(batch)

    with serving({"a": Slow()}, batch_tokens=1) as running:
        body = {"inputs": [{"text": text} for text in ("one", "two, which fails", "three")]}
        with running.client.stream("POST", "/predict", json=body, headers=LINES) as answer:
            assert answer.headers["Content-Type"] == "application/x-ndjson"
            lines = answer.iter_lines()
            assert json.loads(next(lines))["label"] == "one"
            first_is_read.set()
            failed, third = map(json.loads, lines)
        assert "the model failed" in failed["error"]["what"]
        assert failed["request_id"] == answer.headers["X-Request-ID"]
        assert third["label"] == "three"
        one = running.client.post("/predict", json={"text": "one"}, headers=LINES)
        assert json.loads(one.text)["label"] == "one"
        assert one.text.count("\n") == 1
        assert running.client.post("/predict", json={}, headers=LINES).status_code == 422


def test_a_line_is_one_line_to_every_client():
    odd = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r\n好"
    predictor = FakePredictor(answer=lambda row: {"label": row["text"], "scores": {}})
    with serving({"a": predictor}) as running:
        answer = running.client.post("/predict", json={"inputs": [{"text": odd}] * 2}, headers=LINES)
    assert [json.loads(line)["label"] for line in answer.text.splitlines()] == [odd] * 2


def test_a_swapped_model_answers_new_requests_and_the_old_one_those_it_began(hold):
    old, new = FakePredictor("v1", hold=hold), FakePredictor("v2")
    many = {"inputs": [{"text": f"text {i}"} for i in range(10)]}
    with serving({"a": old}, max_wait_ms=20_000, workers=2) as running, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(httpx.post, f"{running.url}/predict", json=many, timeout=20)
        until(lambda: old.batches)
        live_of(running).predictor = new
        assert post(running, "new").json()["model_version"] == "v2"
        assert running.client.get("/readyz").json()["model_version"] == "v2"
        hold.set()
        answer = begun.result().json()
        assert {answer["model_version"], *(output["model_version"] for output in answer["outputs"])} == {"v1"}


def test_a_server_that_is_told_to_end_says_so_answers_for_a_while_and_finishes_what_it_began(hold):
    draining = {"drain_s": 0.5}
    predictor = FakePredictor(hold=hold)

    def server_of(config):
        return _Server(config, draining=config.app.state.draining, **draining)

    with (
        serving({"a": predictor}, server_of=server_of, workers=2, max_wait_ms=20_000) as running,
        ThreadPoolExecutor(2) as pool,
    ):
        assert running.client.get("/readyz").status_code == 200
        begun = pool.submit(post, running, "begun")
        until(lambda: predictor.batches)
        running.server.handle_exit(signal.SIGTERM, None)
        assert running.client.get("/readyz").status_code == 503
        assert running.client.get("/v2/health/ready").status_code == 503
        assert running.client.get("/v2/models/a/ready").json() == {"name": "a", "ready": False}
        assert running.client.get("/healthz").status_code == 200
        late = pool.submit(post, running, "taken while draining")
        until(lambda: running.server.should_exit)
        hold.set()
        assert [begun.result().status_code, late.result().status_code] == [200, 200]


def test_a_request_on_an_open_connection_is_told_that_the_server_stops():
    with serving({"a": FakePredictor()}) as running:
        running.app.state.draining.begin()
        running.app.state.draining.refuse()
        answer = running.client.post("/predict", json=EXAMPLE)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert "stopping" in answer.json()["error"]["what"]


def test_the_log_has_a_line_a_request_with_its_id_and_nothing_that_was_asked(caplog):
    caplog.set_level(logging.INFO, "noria.serving.access")
    with serving({"a": FakePredictor()}, access_log=True) as running:
        running.client.post(
            "/predict?q=confidential", json={"text": "confidential"}, headers={"X-Request-ID": "mine-1"}
        )
        running.client.get("/confidential", headers={"X-Request-ID": "no\tgood"})
    lines = [json.loads(record.message) for record in caplog.records if record.name == "noria.serving.access"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("POST", "/predict", 200),
        ("GET", "none", 404),
    ]
    assert lines[0]["request_id"] == "mine-1"
    assert lines[0]["ms"] > 0
    assert (lines[0]["model"], lines[0]["version"], lines[0]["rows"]) == ("a", "v1", 1)
    assert len(lines[1]["request_id"]) == 32
    assert "confidential" not in caplog.text


def test_every_answer_has_an_id_also_those_that_failed():
    with serving({"a": FakePredictor()}) as running:
        for path, text, status in (("/predict", "fine", 200), ("/predict", "fail", 500), ("/nowhere", "fine", 404)):
            answer = running.client.post(path, json={"text": text}, headers={"X-Request-ID": "mine:2"})
            assert (answer.status_code, answer.headers["X-Request-ID"]) == (status, "mine:2")
            assert status == 200 or answer.json()["request_id"] == "mine:2"
        ids = {running.client.get("/healthz").headers["X-Request-ID"] for _ in range(3)}
        assert len(ids) == 3
        long = running.client.get("/healthz", headers={"X-Request-ID": "x" * 129}).headers["X-Request-ID"]
        assert len(long) == 32


def test_a_client_that_reads_slowly_takes_up_no_place_once_its_answers_are_there():
    body = {"inputs": [{"text": f"{i}" * 8} for i in range(20)]}
    with serving({"a": FakePredictor()}) as running:
        sent = running.client.build_request("POST", "/predict", json=body, headers=LINES)
        answer = running.client.send(sent, stream=True)
        until(lambda: live_of(running).admission.num_requests == 0)
        assert len(list(answer.iter_lines())) == 20


async def ask_often(url, answers, *, address, is_over):
    """Ask from this address, one after the other, on one connection: the status of each answer, and its seconds."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    reader, writer = await asyncio.open_connection(host, port, local_addr=(address, 0))
    body = b'{"text": "0123456789"}'
    while not is_over():
        started = time.monotonic()
        writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
        answers.append((int(head.split()[1]), time.monotonic() - started))
        await asyncio.sleep(0.05)
    writer.close()


def test_a_greedy_client_of_two_hundred_connections_does_not_push_a_polite_one_out():
    polite, greedy = [], []

    async def both(url):
        def is_over():
            return len(polite) == 50

        crowd = [ask_often(url, greedy, address="127.0.0.2", is_over=is_over) for _ in range(200)]
        crowd = asyncio.gather(*crowd)
        while len(greedy) < 200:
            await asyncio.sleep(0.01)
        await ask_often(url, polite, address="127.0.0.1", is_over=is_over)
        await crowd

    with serving({"a": FakePredictor(seconds=0.02)}, batch_tokens=40, max_wait_ms=500) as running:
        asyncio.run(both(running.url))
    assert [status for status, _ in polite] == [200] * 50
    assert any(status in (429, 503) for status, _ in greedy)
    answered_s = [sorted(seconds for status, seconds in by if status == 200) for by in (polite, greedy)]
    of_polite, of_greedy = (of[len(of) // 2] for of in answered_s)
    assert of_polite < of_greedy
