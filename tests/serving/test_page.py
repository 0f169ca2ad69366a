"""The page is public and holds nothing; what it shows comes from guarded routes that spare the store."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
import tiny
from asked import ANSWERS, model_of
from fake_model import FakePredictor, serving, until

from noria.scenarios import scenario_names
from noria.serving.about import Briefly
from noria.serving.bundle import CARD, version_of
from noria.serving.page import PUBLIC
from noria.serving.refusal import Refusal
from noria.serving.store import ModelStore

STATIC = Path(__file__).parents[2] / "noria" / "serving" / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))


@pytest.fixture
def store(tmp_path):
    return ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def running():
    with serving({name: model_of(name) for name in scenario_names()}) as all_of_them:
        yield all_of_them


def test_the_page_is_served_without_a_token_and_its_data_are_not(monkeypatch):
    monkeypatch.setenv("NORIA_TOKEN", "secret")
    with serving({"a": FakePredictor()}) as running:
        for path in PUBLIC:
            assert running.client.get(path).status_code == 200
            assert running.client.post(path).status_code == 405
            assert running.client.get(path, headers={"Host": "evil.example.org"}).status_code == 400
        for path in ("/about", "/models/a/cards", "/models/a/history", "/metrics"):
            assert running.client.get(path).status_code == 401
            assert running.client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert running.client.post("/feedback", json={}).status_code == 401


def test_the_page_runs_its_own_scripts_only_and_reads_no_string_as_markup(running):
    for path in PUBLIC:
        headers = running.client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
        assert (policy["connect-src"], policy["frame-ancestors"]) == ("'self'", "'none'")
        assert policy["require-trusted-types-for"] == "'script'"
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    for file in (*SCRIPTS, STATIC / "index.html"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|\son\w+=|<style|style=", text
        )
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_every_file_of_the_page_is_served_and_small(running):
    served = {running.client.get(path).content for path in PUBLIC}
    files = {file.read_bytes() for file in STATIC.iterdir()}
    assert served == files
    assert all(file.count(b"\n") <= 400 for file in files)


def test_every_word_is_there_in_both_languages_and_every_word_that_is_said_is_there():
    table = re.compile(r'^  "?([\w.-]+)"?: "', flags=re.MULTILINE)
    _, english, chinese = (STATIC / "words.js").read_text(encoding="utf-8").split("= {\n")[:3]
    english, chinese = set(table.findall(english)), set(table.findall(chinese.split("};")[0]))
    assert english == chinese
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    said = set(re.findall(r'data-t(?:-label)?="([\w.-]+)"', page))
    for script in SCRIPTS:
        said |= set(
            re.findall(r'"((?:ask|answer|words|media|sound|feedback|metrics|cards)\.[\w-]+)"', script.read_text())
        )
    assert len(said) > 60
    assert said - english == set()
    text = page + "".join(script.read_text(encoding="utf-8") for script in SCRIPTS if script.name != "words.js")
    by_name = re.compile(r"(scenario|field|history|refused|theme|media)\.")  # the rest of the key comes from data
    assert {key for key in english if f'"{key}"' not in text and not by_name.match(key)} == set()


def test_about_tells_how_to_ask_each_model_and_its_example_works(running):
    about = running.client.get("/about").json()
    assert {model["scenario"] for model in about["models"]} == set(ANSWERS)
    assert (about["keeps_feedback"], about["max_batch_rows"]) == (False, 64)
    for model in about["models"]:
        assert model["request"]["type"] == "object"
        answer = running.client.post(model["path"], json=model["example"])
        assert answer.status_code == 200, answer.text
    kinds = {
        (model["scenario"], field, schema["contentMediaType"])
        for model in about["models"]
        for field, schema in model["request"]["properties"].items()
        if "contentMediaType" in schema
    }
    assert kinds == {
        ("image-classification", "image", "image/*"),
        ("image-text-classification", "image", "image/*"),
        ("speech-recognition", "audio", "audio/*"),
    }


def test_cards_are_those_of_the_version_that_is_served(tmp_path):
    (tmp_path / CARD).write_text("# reviews\n<script>alert(1)</script>\n", encoding="utf-8")
    with serving({"a": FakePredictor("v1", path=tmp_path)}) as running:
        cards = running.client.get("/models/a/cards").json()
        assert cards == {"version": "v1", "model_card": (tmp_path / CARD).read_text(), "data_card": ""}
        running.app.state.models["a"].predictor = FakePredictor("v2")
        assert running.client.get("/models/a/cards").json() == {"version": "v2", "model_card": "", "data_card": ""}


def test_history_tells_the_latest_events_first_without_their_details(store):
    for number in range(60):
        store.journal.record("kept", f"v{number}", reason="why", details={"secret": 1})
    with serving({"a": FakePredictor("v1")}, followed={"a": store}) as running:
        said = running.client.get("/models/a/history").json()
        assert (said["served"], said["live"], said["is_followed"], said["not_served"]) == ("v1", None, True, None)
        assert [event["version"] for event in said["events"]] == [f"v{number}" for number in range(59, 9, -1)]
        assert set(said["events"][0]) == {"kind", "version", "time", "reason"}


def test_history_tells_what_is_tried_and_what_could_not_be(store, tmp_path):
    first, second = (
        version_of(store.publish(tiny.opaque_bundle(tmp_path / name, name).path)) for name in ("first", "second")
    )
    live = store.promote(first, reason="first", over=None)
    store.try_out(second, mode="shadow", share=0.05, reason="better", over=live)
    with serving({"reviews": FakePredictor(first)}, followed={"reviews": store}, follow_s=0.05) as running:
        until(lambda: "not-served" in running.client.get("/models/reviews/history").text, timeout_s=30)
        said = running.client.get("/models/reviews/history").json()
    assert said["tried"] == {"version": second, "mode": "shadow", "share": 0.05}
    assert (said["live"], said["not_served"], said["canary_not_served"]["version"]) == (first, None, second)
    assert [event["kind"] for event in said["events"][:2]] == ["not-served", "canary"]


def test_history_says_what_is_wrong_with_the_store_and_of_a_model_without_one_that_it_has_none(store, tmp_path):
    with serving({"a": FakePredictor(), "b": FakePredictor()}, followed={"a": store}) as running:
        alone = running.client.get("/models/b/history").json()
        assert (alone["is_followed"], alone["live"], alone["events"]) == (False, None, [])
        (tmp_path / "store" / "reviews").mkdir(parents=True)
        (tmp_path / "store" / "reviews" / "production.json").write_text("{")
        answer = running.client.get("/models/a/history")
        assert answer.status_code == 503
        assert "the production pointer can't be read" in answer.json()["error"]["what"]


def test_however_many_want_to_know_the_store_is_asked_once_a_second():
    asked, now_s = [], 0.0

    def ask():
        asked.append(now_s)
        time.sleep(0.01)
        if len(asked) == 2:
            raise Refusal(503, "gone")
        return len(asked)

    async def look():
        nonlocal now_s
        briefly = Briefly(ask, clock=lambda: now_s)
        assert await asyncio.gather(*(briefly.now() for _ in range(20))) == [1] * 20
        now_s = 1.0
        refused = await asyncio.gather(*(briefly.now() for _ in range(20)), return_exceptions=True)
        assert {type(one) for one in refused} == {Refusal}
        assert len(asked) == 2
        now_s = 2.0
        assert await briefly.now() == 3

    asyncio.run(look())


def test_the_documentation_comes_from_this_server_alone():
    with serving({"a": FakePredictor()}) as running:
        page = running.client.get("/docs").text
        assert "SwaggerUIBundle" in page
        linked = re.findall(r"""(?:src|href)="([^"]+)""", page)
        assert linked
        for url in linked:
            assert url.startswith((running.url, "/")), url
            assert running.client.get(url).status_code == 200
        assert running.client.get("/redoc").status_code == 404
