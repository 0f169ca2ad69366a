"""A canary answers its share of the requests and costs no client an answer; a shadow is not felt at all."""

from __future__ import annotations

import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fake_model import FakePredictor, samples, serving, until

from noria.serving import live as live_module
from noria.serving.lineup import Serving, Trial
from noria.serving.pointer import Canary

LINES = {"Accept": "application/x-ndjson"}
MANY = {"inputs": [{"text": "one"}, {"text": "two"}, {"text": "three"}]}


def canary_of(version="v2", *, mode="canary", share=0.5):
    since = "2026-01-01T00:00:00+00:00"
    return Canary(version, version, mode, share, since, "better", since)


def tried(running, challenger, **way):
    """Put it beside the champion."""
    live = running.app.state.models["a"]
    assert live.try_out(canary_of(challenger.version, **way), challenger, beside="v1")
    return live.lineup.trial


def by_canary(running, *, most=200):
    """A session whose requests are the canary's."""
    trial = running.app.state.models["a"].lineup.trial
    return next({"X-Session-ID": str(i)} for i in range(most) if trial.takes(f"session:{i}"))


class Failing(FakePredictor):
    """Fails on every request, where it is told to."""

    def __init__(self, version="v2", *, encoding=False, on="", **more):
        super().__init__(version, **more)
        self._encoding, self._on = encoding, on

    def encode(self, rows):
        if self._encoding:
            raise RuntimeError("it can't read this")
        return super().encode(rows)

    def answer_encoded(self, batch):
        answers = super().answer_encoded(batch)
        if any(self._on in encoded.row["text"] for encoded in batch):
            raise RuntimeError("it can't answer this")
        return answers


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 1.0])
def test_keys_fall_into_the_share_within_binomial_bounds_and_others_for_another_version(share):
    serving_ = Serving(FakePredictor())
    trial, other = (Trial(canary_of(version, share=share), serving_, serving_) for version in ("v2", "v3"))
    taken = [trial.takes(f"request:{i}") for i in range(20_000)]
    bound = 4 * math.sqrt(20_000 * share * (1 - share))
    assert abs(sum(taken) - 20_000 * share) <= bound
    both = sum(a and other.takes(f"request:{i}") for i, a in enumerate(taken))
    assert abs(both - 20_000 * share**2) <= 4 * math.sqrt(20_000 * share**2) + 1


def test_who_is_in_a_share_is_in_a_larger_one():
    serving_ = Serving(FakePredictor())
    small, large = (Trial(canary_of(share=share), serving_, serving_) for share in (0.05, 0.2))
    assert all(large.takes(str(i)) for i in range(5_000) if small.takes(str(i)))


def test_the_canary_answers_its_share_and_says_so():
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, FakePredictor("v2"), share=0.2)
        versions = [running.client.post("/predict", json={"text": "x"}).json()["model_version"] for _ in range(400)]
        assert abs(versions.count("v2") - 80) <= 4 * math.sqrt(400 * 0.2 * 0.8)
        assert versions.count("v1") + versions.count("v2") == 400
        assert (trial.challenger.tally.answers, trial.champion.tally.answers) == (
            versions.count("v2"),
            versions.count("v1"),
        )


@pytest.mark.parametrize("header", ["X-Session-ID", "X-Request-ID"])
def test_one_session_or_one_repeated_request_meets_one_version(header):
    with serving({"a": FakePredictor()}) as running:
        tried(running, FakePredictor("v2"))
        seen = set()
        for session in range(20):
            headers = {header: f"someone-{session}"}
            answers = [running.client.post("/predict", json={"text": "x"}, headers=headers).json() for _ in range(4)]
            (version,) = {answer["model_version"] for answer in answers}
            seen.add(version)
        assert seen == {"v1", "v2"}


@pytest.mark.parametrize("encoding", [True, False], ids=["reading", "computing"])
@pytest.mark.parametrize("way", ["one", "many", "lines", "protocol"])
def test_what_a_canary_fails_on_the_champion_answers_and_it_is_counted(way, encoding):
    canary = Failing(encoding=encoding, on="two" if way != "one" else "")  # one row of several is enough
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, canary)
        headers = by_canary(running)
        if way == "protocol":
            tensor = {"name": "text", "datatype": "BYTES", "shape": [3], "data": ["one", "two", "three"]}
            answer = running.client.post("/v2/models/a/infer", json={"inputs": [tensor]}, headers=headers)
            versions = {answer.json()["model_version"]}
        elif way == "lines":
            answer = running.client.post("/predict", json=MANY, headers={**headers, **LINES})
            versions = {json.loads(line)["model_version"] for line in answer.text.splitlines()}
            assert answer.text.count("\n") == 3
        else:
            answer = running.client.post("/predict", json=MANY if way == "many" else {"text": "x"}, headers=headers)
            said = answer.json()
            versions = {said["model_version"], *(one["model_version"] for one in said.get("outputs", []))}
        assert (answer.status_code, versions) == (200, {"v1"})
        assert (trial.challenger.tally.errors, trial.challenger.tally.answers) == (1, 0)
        assert trial.champion.tally.requests == 0  # the champion's share is its own
        until(lambda: running.app.state.models["a"].admission.num_requests == 0)
        assert running.app.state.models["a"].batcher.num_waiting == 0


def test_lines_of_a_canary_that_does_not_fail_are_its_own():
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, FakePredictor("v2"))
        answer = running.client.post("/predict", json=MANY, headers={**by_canary(running), **LINES})
        assert [json.loads(line)["model_version"] for line in answer.text.splitlines()] == ["v2"] * 3
        assert (trial.challenger.tally.answers, trial.challenger.tally.errors) == (1, 0)


def test_what_no_version_can_answer_is_an_error_of_the_canary_too():
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, FakePredictor("v2"))
        refused = running.client.post("/predict", json={"text": "fail"}, headers=by_canary(running))
        assert (refused.status_code, refused.json()["model_version"]) == (500, "v1")
        assert trial.challenger.tally.errors == 1
        assert running.client.post("/predict", json={}, headers=by_canary(running)).status_code == 422
        assert (trial.challenger.tally.requests, trial.champion.tally.requests) == (1, 0)


def test_the_time_that_a_failing_canary_took_is_not_the_client_s():
    canary = Failing(seconds=0.4)
    with serving({"a": FakePredictor()}, max_wait_ms=200) as running:
        tried(running, canary)
        answer = running.client.post("/predict", json={"text": "x"}, headers=by_canary(running))
        assert (answer.status_code, answer.json()["model_version"]) == (200, "v1")


def test_a_client_who_leaves_while_the_canary_computes_frees_its_place():
    hold = threading.Event()
    with serving({"a": FakePredictor()}, max_wait_ms=20_000) as running:
        trial = tried(running, FakePredictor("v2", hold=hold))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{running.url}/predict", json=MANY, headers=by_canary(running), timeout=0.3)
        until(lambda: running.app.state.models["a"].admission.num_requests == 0)
        hold.set()
        assert running.client.post("/predict", json={"text": "x"}).status_code == 200
        assert trial.challenger.tally.errors == 0


def test_who_names_a_version_is_answered_by_it_and_counts_for_none():
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, FakePredictor("v2"))
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}
        for _ in range(30):
            answer = running.client.post("/v2/models/a/versions/v1/infer", json={"inputs": [tensor]})
            assert answer.json()["model_version"] == "v1"
        assert running.client.post("/v2/models/a/versions/v2/infer", json={"inputs": [tensor]}).status_code == 404
        assert (trial.champion.tally.requests, trial.challenger.tally.requests) == (0, 0)


def test_while_canaries_come_and_go_no_answer_fails_or_is_of_two_versions():
    ended, wrong = threading.Event(), []

    def ask(running):
        num = 0
        with httpx.Client(base_url=running.url, timeout=20) as client:
            while not ended.is_set():
                answer = client.post("/predict", json=MANY, headers=LINES if num % 3 == 0 else {})
                rows = [json.loads(line) for line in answer.text.splitlines()]
                rows = rows[0].get("outputs", rows)
                versions = {row.get("model_version") for row in rows}
                if answer.status_code != 200 or len(versions) != 1 or len(rows) != 3:
                    wrong.append(answer.text)
                num += 1
        return num

    with serving({"a": FakePredictor()}, workers=2) as running, ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask, running) for _ in range(4)]
        for number in range(60):
            kind = Failing if number % 2 else FakePredictor
            tried(running, kind(f"canary {number}"), mode="shadow" if number % 5 == 0 else "canary")
            time.sleep(0.02)
            if number % 7 == 0:
                running.app.state.models["a"].predictor = FakePredictor("v1")
            elif number % 3 == 0:
                running.app.state.models["a"].end_trial()
        ended.set()
        assert sum(client.result() for client in clients) > 100
    assert wrong == []


def test_a_shadow_is_compared_and_changes_no_answer():
    other = FakePredictor("v2", answer=lambda row: {"label": row["text"][:3], "scores": {row["text"][:3]: 0.6}})
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, other, mode="shadow", share=1.0)
        tally = trial.challenger.tally
        for text in ("abc", "abcdef", "xyz"):
            asked = tally.requests + tally.dropped
            answer = running.client.post("/predict", json={"text": text}).json()
            assert (answer["label"], answer["model_version"]) == (text, "v1")
            until(lambda asked=asked: tally.requests + tally.dropped > asked)
        assert (tally.same_rows, tally.other_rows, tally.dropped) == (2, 1, 0)
        assert tally.mean_confidence() == pytest.approx(0.6, abs=0.03)
        assert trial.champion.tally.answers == 3


def test_a_shadow_that_hangs_delays_nobody_and_is_given_nothing_more():
    hold = threading.Event()
    with serving({"a": FakePredictor()}) as running:
        shadow = FakePredictor("v2", hold=hold)
        trial = tried(running, shadow, mode="shadow", share=1.0)
        running.client.post("/predict", json={"text": "first"})
        until(lambda: shadow.batches)
        started = time.monotonic()
        for i in range(50):
            assert running.client.post("/predict", json={"text": f"text {i}"}).status_code == 200
        assert time.monotonic() - started < 5
        assert (trial.challenger.tally.dropped, shadow.batches) == (50, [["first"]])
        hold.set()
        until(lambda: trial.challenger.tally.answers == 1)


def test_a_shadow_gives_way_between_two_rows():
    computing, going_on = threading.Event(), threading.Event()
    champion = FakePredictor(hold=going_on)

    class Shadow(FakePredictor):
        def answer_encoded(self, batch):
            computing.set()
            assert going_on_with_shadow.wait(timeout=20)
            return super().answer_encoded(batch)

    going_on_with_shadow = threading.Event()
    going_on.set()
    shadow = Shadow("v2")
    with (
        serving({"a": champion}, max_wait_ms=20_000) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        trial = tried(running, shadow, mode="shadow", share=1.0)
        running.client.post("/predict", json=MANY)
        assert computing.wait(timeout=20)
        going_on.clear()
        waiting = pool.submit(httpx.post, f"{running.url}/predict", json={"text": "a client"}, timeout=20)
        until(lambda: not running.app.state.models["a"].batcher.is_idle)
        going_on_with_shadow.set()
        until(lambda: trial.challenger.tally.dropped == 1)
        assert shadow.batches == [["one"]]
        going_on.set()
        assert waiting.result().status_code == 200


def test_a_shadow_that_fails_is_counted_and_nobody_sees_it():
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, Failing(), mode="shadow", share=1.0)
        answer = running.client.post("/predict", json={"text": "x"})
        assert (answer.status_code, answer.json()["model_version"]) == (200, "v1")
        until(lambda: trial.challenger.tally.errors == 1)
        running.client.post("/predict", json={"text": "fail"})  # what the champion failed on is not asked again
        running.client.post("/predict", json={"text": "x"})
        until(lambda: trial.challenger.tally.errors == 2)


def test_a_shadow_follows_lines_too():
    with serving({"a": FakePredictor()}) as running:
        trial = tried(running, FakePredictor("v2"), mode="shadow", share=1.0)
        running.client.post("/predict", json=MANY, headers=LINES)
        until(lambda: trial.challenger.tally.same_rows == 3)


def test_metrics_tell_the_versions_apart_and_forget_who_left():
    with serving({"a": FakePredictor()}) as running:
        tried(running, Failing(on="bad"), share=0.5)
        session = by_canary(running)
        for text in ("good", "bad"):
            running.client.post("/predict", json={"text": text}, headers=session)
        found = samples(running)
        assert found["noria_model_info", "a", "canary", "text-classification", "v2"] == 1
        assert found["noria_canary_share", "a", "canary", "v2"] == 0.5
        assert found["noria_version_errors_total", "a", "canary", "v2"] == 1
        assert found["noria_version_seconds_count", "a", "canary", "v2"] == 1
        assert found["noria_version_seconds_bucket", "+Inf", "a", "canary", "v2"] == 1
        assert found["noria_version_seconds_count", "a", "champion", "v1"] == 0
        assert running.client.get("/readyz").json()["tried"] == {"a": "v2"}
        running.app.state.models["a"].end_trial()
        assert not [key for key in samples(running) if "v2" in key]
        assert "tried" not in running.client.get("/readyz").json()


def test_an_answer_is_judged_once_and_by_who_knows_its_id(monkeypatch):
    monkeypatch.setattr(live_module, "_MOST_REMEMBERED", 3)
    with serving({"a": FakePredictor()}) as running:
        trial, live = tried(running, FakePredictor("v2")), running.app.state.models["a"]
        ids = [f"id-{i}" for i in range(30)]
        (mine,) = [i for i in ids if trial.takes(f"request:{i}")][:1]
        for request_id in ["other", mine, "another"]:
            running.client.post("/predict", json={"text": "x"}, headers={"X-Request-ID": request_id})
        until(lambda: len(live._answered_by) == 3)
        for request_id in (mine, mine, "made up"):
            live.judged(request_id, is_right=False)
        assert (trial.challenger.tally.wrong, trial.challenger.tally.right) == (1, 0)
        for request_id in ids:
            running.client.post("/predict", json={"text": "x"}, headers={"X-Request-ID": request_id})
        assert len(live._answered_by) <= 3
