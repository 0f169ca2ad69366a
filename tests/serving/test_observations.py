"""What servers counted of a canary is in the store, adds up over servers, and stays small."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_model import FakePredictor, serving, until
from test_canary_traffic import canary_of

from noria.errors import StoreError
from noria.serving.lineup import Lineup, Serving, Trial
from noria.serving.objects import LocalObjects
from noria.serving.observations import read_observations
from noria.serving.observer import Observer
from noria.serving.store import ModelStore
from noria.serving.tally import Tally, stated_confidence

TRIAL = "20260101T000000.000000Z-v2"


def lineup_of(*, answers=0, errors=0):
    trial = Trial(canary_of(), Serving(FakePredictor("v1")), Serving(FakePredictor("v2")))
    for _ in range(answers):
        trial.challenger.tally.answered([{"label": "a", "scores": {"a": 0.9}}], seconds=0.01)
    trial.challenger.tally.errors = errors
    return Lineup(trial.champion, trial)


@pytest.fixture
def objects(tmp_path):
    return LocalObjects(tmp_path)


def test_several_servers_add_up_and_each_replaces_its_own(objects, tmp_path):
    first, second = Observer(objects, "a"), Observer(objects, "a")
    lineup = lineup_of(answers=3, errors=1)
    first.write(lineup)
    second.write(lineup_of(answers=2))
    lineup.trial.challenger.tally.answered([], seconds=0.01)
    first.write(lineup)
    observed = read_observations(objects, "a", canary_of())
    assert (observed.challenger.answers, observed.challenger.errors, observed.num_servers) == (6, 1, 2)
    assert observed.champion.requests == 0
    assert len(list((tmp_path / "a" / "observations" / TRIAL).glob("*.json"))) == 2
    assert read_observations(objects, "a", canary_of("v3")).num_servers == 0


def test_what_did_not_change_is_not_written_again_and_what_ended_is_written_once_more(objects, tmp_path):
    observer, lineup = Observer(objects, "a"), lineup_of(answers=1)
    observer.write(lineup)
    (file,) = (tmp_path / "a" / "observations" / TRIAL).glob("*.json")
    before = file.read_bytes()
    observer.write(lineup)
    assert file.read_bytes() == before
    lineup.trial.challenger.tally.errors += 1
    observer.write(Lineup(lineup.champion))
    assert read_observations(objects, "a", canary_of()).challenger.errors == 1


def test_a_store_that_is_gone_for_a_while_loses_nothing(tmp_path, caplog):
    (tmp_path / "store").write_text("no directory")
    observer, lineup = Observer(LocalObjects(tmp_path / "store"), "a"), lineup_of(answers=5)
    observer.write(lineup)
    assert "were not written" in caplog.text
    (tmp_path / "store").unlink()
    observer.write(lineup)
    assert read_observations(LocalObjects(tmp_path / "store"), "a", canary_of()).challenger.answers == 5


def test_a_server_writes_at_its_end_and_no_payload(tmp_path):
    store = ModelStore(str(tmp_path / "store"), name="a", cache=tmp_path / "cache")
    with serving({"a": FakePredictor("v1")}, followed={"a": store}, follow_s=100) as running:
        live = running.app.state.models["a"]
        assert live.try_out(canary_of(share=0.5), FakePredictor("v2"), beside="v1")
        for i in range(40):
            running.client.post("/predict", json={"text": f"confidential {i}"})
        trial = live.lineup.trial
        until(lambda: trial.champion.tally.answers + trial.challenger.tally.answers == 40)
    observed = read_observations(LocalObjects(tmp_path / "store"), "a", canary_of())
    assert observed.champion.answers + observed.challenger.answers == 40
    assert observed.challenger.answers > 5
    (file,) = (tmp_path / "store" / "a" / "observations" / TRIAL).glob("*.json")
    assert "confidential" not in file.read_text()


@pytest.mark.parametrize("damage", ["{", "[]", '{"champion": {}, "challenger": {}}'])
def test_a_damaged_object_is_named(objects, tmp_path, damage):
    Observer(objects, "a").write(lineup_of(answers=1))
    (file,) = (tmp_path / "a" / "observations" / TRIAL).glob("*.json")
    file.write_text(damage)
    with pytest.raises(StoreError) as caught:
        read_observations(objects, "a", canary_of())
    assert file.name in caught.value.where


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", None, True, [1]])
def test_what_is_no_tally_is_refused(wrong):
    values = dict(Tally().values())
    assert Tally.of(json.loads(json.dumps(values))) == Tally()
    with pytest.raises(ValueError, match="errors"):
        Tally.of({**values, "errors": wrong})
    with pytest.raises(ValueError, match="latencies"):
        Tally.of({**values, "latencies": [wrong] * 121})


def test_quantiles_are_those_of_the_answers_within_a_bucket():
    seconds = np.random.default_rng(0).lognormal(mean=-4, sigma=1.0, size=20_000)
    tally = Tally()
    for one in seconds:
        tally.answered([], seconds=float(one))
    for share in (0.5, 0.9, 0.99):
        assert tally.quantile_s(share) == pytest.approx(np.quantile(seconds, share), rel=0.06)
    assert Tally().quantile_s(0.5) is None
    assert tally.slower_than(float(np.quantile(seconds, 0.9))) == pytest.approx(2_000, rel=0.15)


def test_a_tally_is_as_large_after_many_answers_as_before():
    tally, odd = Tally(), (0.0, 1e-9, 1e9)
    before = len(json.dumps(tally.values()))
    for i in range(10_000):
        tally.answered([{"label": "a", "scores": {"a": (i % 11) / 10}}], seconds=odd[i % 3])
    assert tally.answers == 10_000
    assert len(json.dumps(tally.values())) < before + 200
    assert len(tally.latencies) == 121


@pytest.mark.parametrize(
    ("answer", "confidence"),
    [
        ({"label": "a", "scores": {"a": 0.7, "b": 0.3}}, 0.7),
        ({"text": "x", "confidence": 0.4}, 0.4),
        ({"answer": "x", "score": 0.2}, 0.2),
        ({"items": ["a"], "scores": [3.1]}, None),
        ({"text": "x", "score": -4.2}, None),
        ({"text": "x"}, None),
    ],
)
def test_the_confidence_is_what_the_answer_states(answer, confidence):
    assert stated_confidence(answer) == confidence
