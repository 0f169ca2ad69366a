"""Feedback becomes labelled rows once, whatever is killed, and what is not believed is in quarantine."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import hours
import httpx
import pytest
from server_process import go_live, running
from workspaces import good_rows

from noria.config import FeedbackConfig
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows
from noria.scenarios import load_scenario
from noria.serving.clients import clients_key, pseudonym_of
from noria.serving.feedback import Shelf
from noria.serving.feedback_rows import Taker, row_of, said_of
from noria.serving.intakes import Intakes
from noria.serving.objects import LocalObjects
from noria.serving.store import ModelStore
from tasks.ingest import ingest

SCENARIO = load_scenario("text-classification")


def say(shelf, text, *, right=None, answer="neg", client="c1", version="0123456789ab"):
    """Feedback on an answer: it was right, or `right` would have been."""
    shelf.keep(
        {
            "client": client,
            "request": {"text": text},
            "response": {"label": answer, "scores": {}},
            "model_version": version,
            "is_right": right is None,
            "correction": right,
        }
    )


class Killed(BaseException):
    """As a process ends that is killed."""


class Mortal(LocalObjects):
    """Objects whose user is killed at the n-th time that it touches them."""

    left = 10**9

    def read(self, key):
        self._live()
        return super().read(key)

    def create(self, key, data):
        self._live()
        done = super().create(key, data)
        self._live()
        return done

    def names(self, prefix):
        self._live()
        return super().names(prefix)

    def _live(self):
        Mortal.left -= 1
        if Mortal.left <= 0:
            raise Killed


@pytest.fixture
def place(tmp_path):
    """A workspace that has read 300 rows, and the shelf of its feedback."""
    workspace = hours.make(tmp_path / "ws", "sources/hours")
    (workspace.root / "sources" / "hours").mkdir()
    (workspace.root / "sources" / "hours" / "00.csv").write_bytes(hours.hour(0, 300))
    ingest.fn(workspace)
    return workspace, Shelf(LocalObjects(workspace.root / "store"), "reviews")


def taker_of(workspace, **settings):
    store = ModelStore(workspace.store, name="reviews", cache=workspace.store_cache)
    quarantine = workspace.quarantine("feedback")
    config = FeedbackConfig(**settings)
    return Taker(store, SCENARIO, config, base=workspace.root, raw=workspace.raw, quarantine=quarantine)


def rows_of(workspace):
    """(text, label) of the rows that training reads of feedback."""
    ingest.fn(workspace)
    return sorted((r["text"], r["label"]) for r in read_rows(workspace.raw) if r["origin"].startswith("feedback:"))


def refused_of(workspace):
    return sorted(row.rule for row in read_quarantine(workspace.quarantine("feedback")))


def test_a_correction_becomes_a_row_and_other_words_are_counted(place):
    workspace, shelf = place
    (known, label), *_ = good_rows(300)
    other = {"neg": "pos", "pos": "neg"}[label]
    say(shelf, "这个酒店真的不错", right="pos")
    say(shelf, "早餐很好", answer="pos")
    say(shelf, known, right=other, client="c2")
    intakes = taker_of(workspace).take()
    assert rows_of(workspace) == [("这个酒店真的不错", "pos")]
    assert refused_of(workspace) == ["contradicts_row"]
    assert said_of("0123456789ab", intakes) == {"right": 1, "wrong": 2, "refused": {"contradicts_row": 1}}
    assert taker_of(workspace).take() == intakes
    say(shelf, "屏幕很好", answer="pos")
    assert len(taker_of(workspace, use="all").take()) == 2
    assert rows_of(workspace) == [("屏幕很好", "pos"), ("这个酒店真的不错", "pos")]


def test_a_client_that_says_much_is_heard_up_to_its_cap_of_a_day(place):
    workspace, shelf = place
    for number in range(5):
        say(shelf, f"第{number}个很好", right="pos", client="loud")
    taker_of(workspace, max_client_rows=2).take()
    say(shelf, "还有一个很好", right="pos", client="loud")
    taker_of(workspace, max_client_rows=2).take()
    assert len(rows_of(workspace)) == 2
    assert refused_of(workspace) == ["client_cap"] * 4


def test_killed_at_any_point_and_run_again_it_makes_the_same_rows_once(place, monkeypatch):
    workspace, shelf = place
    for number in range(4):
        say(shelf, f"第{number}个很好", right="pos", client="loud")
    known, label = good_rows(300)[0]
    say(shelf, known, right={"neg": "pos", "pos": "neg"}[label])
    monkeypatch.setattr("noria.serving.store.open_objects", lambda url: Mortal(workspace.root / "store"))
    Mortal.left, deaths = 1, 0
    for lives in range(1, 60):
        Mortal.left = lives
        try:
            intakes = taker_of(workspace, max_client_rows=3).take()
        except Killed:
            deaths += 1
        else:
            break
    assert deaths > 5
    assert len(intakes) == 1
    assert [label for _, label in rows_of(workspace)] == ["pos"] * 3
    assert len({row["id"] for row in read_rows(workspace.raw)}) == 303
    assert len(refused_of(workspace)) == len(intakes[0].refused) == 1 + 1


def test_another_workspace_of_the_model_makes_the_same_rows(place, tmp_path):
    workspace, shelf = place
    say(shelf, "这个酒店真的不错", right="pos")
    taker_of(workspace).take()
    (path,) = (workspace.intake / "feedback").glob("*")
    made = path.read_bytes()
    path.unlink()
    taker_of(workspace).take()
    assert path.read_bytes() == made


def test_feedback_waits_for_a_source_that_was_never_read(tmp_path):
    workspace = hours.make(tmp_path / "ws", "sources/hours")
    shelf = Shelf(LocalObjects(workspace.root / "store"), "reviews")
    say(shelf, "这个酒店真的不错", right="pos")
    assert taker_of(workspace).take() == []


@pytest.mark.parametrize(
    ("scenario", "request_", "right", "row"),
    [
        ("translation", {"source": "Save"}, "Speichern", {"source": "Save", "target": "Speichern"}),
        (
            "question-answering",
            {"question": "What?", "context": "It is a list."},
            "a list",
            {"question": "What?", "context": "It is a list.", "answer": "a list", "answer_start": "6"},
        ),
        ("question-answering", {"question": "What?", "context": "It is a list."}, "a set", None),
    ],
)
def test_a_scenario_knows_what_a_correction_says(scenario, request_, right, row):
    made = row_of({"request": request_}, right, scenario=load_scenario(scenario))
    assert made is None if row is None else {k: v for k, v in made.items() if v} == row


@pytest.mark.parametrize("scenario", ["recommendation", "language-modelling"])
def test_where_a_row_says_more_than_an_answer_feedback_is_only_counted(scenario):
    assert load_scenario(scenario).correct is None


def test_a_client_is_kept_as_a_pseudonym_that_the_store_does_not_tell(tmp_path):
    key = clients_key(tmp_path / "clients.key", {})
    assert key == clients_key(tmp_path / "clients.key", {}) and len(key) == 32
    assert (tmp_path / "clients.key").stat().st_mode & 0o077 == 0
    assert pseudonym_of("10.0.0.1", key=key) == pseudonym_of("10.0.0.1", key=key) != pseudonym_of("10.0.0.2", key=key)
    assert clients_key(tmp_path / "clients.key", {"NORIA_CLIENTS_KEY": "shared"}) == b"shared"


def test_servers_that_start_at_once_have_one_secret_and_none_an_empty_one(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: clients_key(tmp_path / "clients.key", {}), range(64)))
    assert [len(key) for key in keys] == [32]
    assert [path.name for path in tmp_path.iterdir()] == ["clients.key"]


def test_an_answer_of_a_version_that_answered_otherwise_is_counted_and_ends_no_update(place):
    workspace, shelf = place
    event = {"client": "c1", "request": {"text": "早餐很好"}, "model_version": "0123456789ab"}
    shelf.keep({**event, "response": {"class": "pos"}, "is_right": True, "correction": None})
    shelf.keep({**event, "response": {"class": "neg"}, "is_right": False, "correction": "pos"})
    (intake,) = taker_of(workspace, use="all").take()
    assert intake.said == {"0123456789ab": {"right": 1, "wrong": 1}}
    assert rows_of(workspace) == [("早餐很好", "pos")]


def test_another_store_has_intakes_of_its_own(place):
    workspace, shelf = place
    say(shelf, "这个酒店真的不错", right="pos")
    taker_of(workspace).take()
    shutil.move(workspace.root / "store", workspace.root / "old")
    other = ModelStore(str(workspace.root / "other"), name="reviews", cache=workspace.store_cache)
    say(Shelf(LocalObjects(workspace.root / "other"), "reviews"), "早餐很好", right="pos")
    taker = replace(taker_of(workspace), store=other)
    (intake,) = taker.take()
    assert len(intake.taken) == 1
    assert other.intakes.all() == [intake]
    fresh = ModelStore(str(workspace.root / "other"), name="reviews", cache=workspace.store_cache)
    assert fresh.intakes.waiting(fresh.intakes.all()) == []


def test_a_client_that_contradicts_a_little_in_each_update_is_caught(place):
    workspace, shelf = place
    for number, (known, label) in enumerate(good_rows(300)[:3]):
        say(shelf, known, right={"neg": "pos", "pos": "neg"}[label], client="liar")
        say(shelf, f"第{number}个很好", right="neg", client="liar")
        intakes = taker_of(workspace).take()
    assert intakes[-1].heard == {"liar": (1, 1)}
    assert refused_of(workspace) == ["contradicts_row"] * 2 + ["distrusted_client"] * 2
    assert len(rows_of(workspace)) == 2


def test_a_store_in_the_place_of_another_hides_no_rows_and_gives_none_twice(place):
    workspace, shelf = place
    store, kept, lost = (workspace.root / name for name in ("store", "kept", "lost"))
    say(shelf, "这个酒店真的不错", right="pos")
    taker_of(workspace).take()
    shutil.copytree(store, kept)
    say(shelf, "早餐很好", right="pos")
    taker_of(workspace).take()
    shutil.move(store, lost)
    shutil.copytree(kept, store)  # restored: the second intake is lost, and what it took is there
    shutil.copytree(lost / "reviews" / "feedback", store / "reviews" / "feedback", dirs_exist_ok=True)
    say(shelf, "屏幕很好", right="pos")
    intakes = taker_of(workspace).take()
    assert [len(intake.accepted) for intake in intakes] == [1, 2]
    rows = [("屏幕很好", "pos"), ("早餐很好", "pos"), ("这个酒店真的不错", "pos")]
    assert rows_of(workspace) == rows
    shutil.rmtree(store)  # another one altogether
    say(shelf, "包装破损", right="neg")
    taker_of(workspace).take()
    assert rows_of(workspace) == sorted([*rows, ("包装破损", "neg")])
    assert taker_of(workspace).take() == taker_of(workspace).take()


def test_feedback_that_a_backup_lacks_though_it_was_taken_ends_no_update(place):
    workspace, shelf = place
    (known, label), *_ = good_rows(300)
    for text in ("这个酒店真的不错", "早餐很好"):
        say(shelf, text, right="pos")
    say(shelf, known, right={"neg": "pos", "pos": "neg"}[label], client="c2")
    taker_of(workspace).take()
    for path in (workspace.root / "store" / "reviews" / "feedback").iterdir():  # copied before they came
        if "早餐很好" not in path.read_text():
            path.unlink()
    shutil.rmtree(workspace.intake / "feedback")
    shutil.rmtree(workspace.quarantine("feedback"))
    say(shelf, "屏幕很好", right="pos")
    assert len(taker_of(workspace).take()) == 2
    assert rows_of(workspace) == [("屏幕很好", "pos"), ("早餐很好", "pos")]
    assert refused_of(workspace) == []


def test_a_store_that_lost_an_intake_in_between_takes_its_feedback_again_and_goes_on(place):
    workspace, shelf = place
    for text in ("这个酒店真的不错", "早餐很好"):
        say(shelf, text, right="pos")
        taker_of(workspace).take()
    (workspace.root / "store" / "reviews" / "intakes" / "000001.json").unlink()
    say(shelf, "屏幕很好", right="pos")
    assert [intake.number for intake in taker_of(workspace).take()] == [2, 3]
    assert rows_of(workspace) == [("屏幕很好", "pos"), ("早餐很好", "pos"), ("这个酒店真的不错", "pos")]


def test_another_workspace_knows_what_the_first_took_before_it_decides(place, tmp_path):
    workspace, shelf = place
    say(shelf, "这个酒店真的不错", right="pos")
    taker_of(workspace).take()
    shutil.rmtree(workspace.intake / "feedback")  # it never made the rows
    say(shelf, "这个酒店真的不错", right="neg")
    taker_of(workspace).take()
    assert refused_of(workspace) == ["disagreement"]


def test_much_feedback_is_never_in_memory_at_once(tmp_path):
    read = []

    class Counted(LocalObjects):
        def read(self, key):
            read.append(key)
            return super().read(key)

    shelf = Shelf(LocalObjects(tmp_path), "reviews")
    for number in range(40):
        say(shelf, f"{number}", right="pos")
    intakes = Intakes(Counted(tmp_path), "reviews", place="here", cache=tmp_path / "cache")
    next(events := intakes.events(intakes.waiting([])))
    assert len(read) <= 8
    assert len(list(events)) == 39


@pytest.mark.slow
def test_what_a_client_corrects_is_learned_from(workspace, tmp_path):
    place = hours.make(tmp_path / "live", "sources/hours")
    live = go_live(workspace, place.root)
    params = hours.PARAMS + f"deploy: {{store: '{place.root / 'store'}'}}\n"
    live.params.write_text(params.replace("name: reviews", "name: tiny"))
    live = type(live)(place.root)
    (place.root / "sources" / "hours").mkdir()
    (place.root / "sources" / "hours" / "00.csv").write_bytes(hours.hour(0, 300))
    ingest.fn(live)
    with running(live) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for text, right in (("这个酒店真的不错，早餐很好", None), ("键盘难用，后悔", "neg"), ("包装破损", "rubbish")):
            answer = client.post("/predict", json={"text": text})
            said = {
                "model": "tiny",
                "request": {"text": text},
                "response": {key: answer.json()[key] for key in ("label", "scores")},
                "request_id": answer.headers["X-Request-ID"],
                "model_version": answer.json()["model_version"],
                "is_right": right is None,
                "correction": right,
            }
            assert client.post("/feedback", json=said).status_code == 201
    kept = [json.loads(path.read_text()) for path in (place.root / "store" / "tiny" / "feedback").glob("*")]
    assert len({event["client"] for event in kept}) == 1
    assert "127.0.0.1" not in json.dumps(kept)
    found = hours.Found(live)
    assert [(row["text"], row["label"]) for row in found.rows] == [("键盘难用，后悔", "neg")]
    assert found.rows[0]["origin"].startswith("feedback:")
    assert found.facts["feedback"] == {"rows": 1, "right": 1, "wrong": 2, "refused": {"unknown_label": 1}}
    assert rows_of(live) == [("键盘难用，后悔", "neg")]
    assert hours.Found(live).facts["objects_new"] == 0
