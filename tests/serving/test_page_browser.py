"""The page in a real browser: every scenario is asked, what comes back is text, and everybody can use it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
from asked import ANSWERS, model_of
from fake_model import FakePredictor, serving
from playwright.sync_api import expect, sync_playwright
from recording import Recording
from test_canary_traffic import canary_of

from noria.serving.bundle import CARD, open_bundle, version_of
from noria.serving.predictor import IS_WHOLE, VERSION_FIELD
from noria.serving.store import ModelStore

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a microphone that beeps
]
HOSTILE = '<img src=x onerror="document.title=1">'
WITHOUT_A_NAME = """
() => [...document.querySelectorAll(
  'button, input, select, textarea, summary, a, audio, [role=group]'
)].filter((node) => {
  const labels = [...(node.labels ?? [])].map((label) => label.textContent).join('');
  const own = /^(BUTTON|SUMMARY|A)$/.test(node.tagName) ? node.textContent : '';
  return node.checkVisibility() && !(node.getAttribute('aria-label') ?? (own || labels)).trim();
}).map((node) => node.outerHTML)
"""
TOO_PALE = """
() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => rgb.slice(0, 3).map((v) => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return /^rgb\\(/.test(color) || !node.parentElement ? color : behind(node.parentElement);
  };
  return [...document.querySelectorAll('body *')].filter((node) => {
    const isText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!isText || !node.checkVisibility() || node.closest('.unseen, .skip, :disabled, svg, noscript')) return false;
    const [a, b] = [getComputedStyle(node).color, behind(node)].map((color) => light(numbers(color)));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map((node) => node.outerHTML.slice(0, 200));
}
"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(browser, url, *, fragment="", expected_errors=0, **settings):
    """The page; at the end, nothing was asked of another origin and nothing was complained about."""
    context = browser.new_context(**{"locale": "en-US", **settings})
    page = context.new_page()
    errors, foreign = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((url, "data:", "blob:")) else foreign.append(request.url),
    )
    page.goto(f"{url}/#{fragment}")
    yield page
    assert foreign == []
    assert len(errors) == expected_errors, errors
    context.close()


@pytest.fixture
def store(tmp_path):
    store = ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")
    store.journal.record("promoted", "0123456789ab", reason=HOSTILE)
    return store


@pytest.fixture
def reviews(store, tmp_path):
    """A text classifier that follows a store and has a card."""
    (tmp_path / CARD).write_text(f"# reviews\n\n| a | b |\n|---|---|\n| `c` | {HOSTILE} |\n", encoding="utf-8")
    model = model_of("text-classification", path=tmp_path)
    with serving({"reviews": model}, followed={"reviews": store}) as running:
        yield running


@pytest.fixture(scope="module")
def everything():
    with serving({name: model_of(name) for name in ANSWERS}, max_body_bytes=300_000) as running:
        yield running


def test_a_text_is_asked_explained_and_corrected_and_that_is_kept(browser, reviews, tmp_path):
    with opened(browser, reviews.url) as page:
        page.get_by_label("Text", exact=True).fill("质量很好，物流太慢，坏，太差")
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .big")).to_contain_text("neg")
        expect(page.locator("#answer .bars li")).to_have_count(2)
        expect(page.locator("#answer")).to_contain_text(re.compile(r"version 0123456789ab.*round trip .* ms"))
        page.get_by_role("button", name="Which words mattered?").click()
        expect(page.locator(".word.against").first).to_be_visible()
        expect(page.locator(".word.for").first).to_be_visible()
        expect(page.get_by_text(re.compile("坏: \\+"))).to_be_attached()
        page.get_by_role("button", name="Wrong").click()
        correction = page.get_by_label("What would be right? (optional)")
        expect(correction).to_be_focused()
        correction.fill("pos")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Kept. Thank you.")).to_be_visible()
        expect(page.locator(".figures")).to_contain_text("0 / 1", timeout=15_000)
        (file,) = (tmp_path / "store" / "reviews" / "feedback").iterdir()
        event = json.loads(file.read_text())
        assert event["request"] == {"text": "质量很好，物流太慢，坏，太差"}
        assert (event["response"]["label"], event["correction"], event["is_right"]) == ("neg", "pos", False)
        assert event["request_id"]


def test_a_visit_meets_one_version_while_another_is_tried(browser):
    champion, challenger = model_of("text-classification"), model_of("text-classification", version="v2")
    with serving({"reviews": champion}) as running:
        live = running.app.state.models["reviews"]
        assert live.try_out(canary_of("v2"), challenger, beside=champion.version)
        with opened(browser, running.url) as page:
            page.get_by_label("Text", exact=True).fill("质量很好，物流太慢，坏，太差")
            for _ in range(8):
                with page.expect_response("**/predict"):
                    page.get_by_role("button", name="Ask the model").click()
            page.get_by_role("button", name="Which words mattered?").click()
            expect(page.locator(".word").first).to_be_visible()
    assert sorted([not champion.batches, not challenger.batches]) == [False, True]


def test_language_and_theme_change_at_once_and_are_remembered(browser, reviews):
    with opened(browser, reviews.url, color_scheme="dark") as page:
        background = "getComputedStyle(document.body).backgroundColor"
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .big")).to_contain_text("sure")
        dark = page.evaluate(background)
        page.get_by_role("button", name="Theme: system").click()
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("button", name="配色：浅色")).to_be_visible()
        expect(page.get_by_role("heading", name="版本")).to_be_visible()
        expect(page.locator("#answer .big")).to_contain_text("置信度")
        assert page.evaluate(background) != dark
        page.reload()
        expect(page.get_by_role("button", name="询问模型")).to_be_visible()
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        assert page.evaluate(background) != dark
    with opened(browser, reviews.url, locale="zh-CN") as page:
        expect(page.get_by_role("button", name="询问模型")).to_be_visible()


EXPECTED = {
    "text-classification": "pos",
    "image-classification": "91.0%",
    "image-text-classification": "pos",
    "translation": "Placeholders or tags of the source are missing.",
    "language-modelling": "def main(argv):",
    "question-answering": "joined",
    "recommendation": "Return of the Jedi (1983)",
    "speech-recognition": "bytes",
}


@pytest.mark.parametrize("scenario", sorted(ANSWERS))
@pytest.mark.parametrize("width", [390, 1_200])
def test_every_scenario_can_be_asked_by_everybody(browser, everything, scenario, width):
    with opened(browser, everything.url, fragment=scenario, viewport={"width": width, "height": 900}) as page:
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer")).to_contain_text(EXPECTED[scenario])
        expect(page.locator("#answer")).to_contain_text("the server follows no store")
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate(WITHOUT_A_NAME) == []
        assert page.evaluate("[...document.images].filter((image) => !image.alt).length") == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert page.evaluate(TOO_PALE) == []


def test_a_span_is_marked_where_it_is_counted_in_code_points(browser, everything):
    with opened(browser, everything.url, fragment="question-answering") as page:
        page.get_by_label("Text that may answer it").fill("😀😀 it is joined there")
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer mark")).to_have_text("joined")


def test_a_history_is_one_item_a_line_and_options_are_sent(browser, everything):
    with opened(browser, everything.url, fragment="recommendation") as page:
        page.get_by_label("What the user did so far").fill("Star Wars (1977)\n\nNobody Knows It")
        page.get_by_text("Options").click()
        page.get_by_label("How many items").fill("2")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".ranked li")).to_have_count(2)
        expect(page.locator("#answer .note")).to_contain_text("Nobody Knows It")


def test_an_image_is_dropped_or_chosen_and_one_that_is_too_long_is_refused_before_it_is_sent(browser, everything):
    image = base64.b64decode(model_of("image-classification").bundle.scenario.example["image"])
    with opened(browser, everything.url, fragment="image-classification") as page:
        page.get_by_role("button", name="Remove").click()
        chooser = page.get_by_label("Drop an image here, or choose a file")
        chooser.set_input_files({"name": "seven.png", "mimeType": "image/png", "buffer": image})
        expect(page.locator(".preview")).to_contain_text("seven.png")
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .big")).to_contain_text("7")
        dropped = page.evaluate_handle(
            """(letters) => { const data = new DataTransfer();
               const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
               data.items.add(new File([bytes], 'dropped.png', {type: 'image/png'})); return data; }""",
            model_of("image-classification").bundle.scenario.example["image"],
        )
        page.locator(".drop").dispatch_event("drop", {"dataTransfer": dropped})
        expect(page.locator(".preview")).to_contain_text("dropped.png")
        chooser.set_input_files({"name": "long.png", "mimeType": "image/png", "buffer": b"x" * 250_000})
        expect(page.get_by_role("alert")).to_contain_text("long.png is 250 kB")
        expect(page.locator(".preview")).to_contain_text("dropped.png")


def test_what_the_microphone_hears_is_sent_as_wav(browser, everything):
    with opened(browser, everything.url, fragment="speech-recognition", permissions=["microphone"]) as page:
        page.get_by_role("button", name="Record", exact=True).click()
        page.get_by_role("button", name="Stop (1 s)").click()
        expect(page.locator(".preview")).to_contain_text("recording.wav")
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .large")).to_contain_text("bytes")
        num_bytes = int(page.locator("#answer .large").inner_text().split()[0])
        assert 20_000 < num_bytes < 200_000  # a second or some of 16,000 samples of two bytes


def test_each_line_is_a_request_of_its_own_whose_answers_come_one_by_one(browser, everything):
    with opened(browser, everything.url, fragment="translation") as page:
        page.get_by_label("Text to translate").fill("ab\n\ncd\nef")
        page.get_by_label("Each line is a request of its own").check()
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator(".each li .said")).to_have_text(["ba", "dc", "fe"])
        expect(page.locator("#answer")).to_contain_text("3 of 3")


class Growing(FakePredictor):
    """Says a text in two beginnings, the second when it is let."""

    def __init__(self):
        super().__init__("0123456789ab", scenario="language-modelling")
        self.go_on = threading.Event()
        self.bundle.encoder = SimpleNamespace(grows=True, beginnings=list, is_whole=bool)

    def beginnings(self, encoded):
        return [replace(encoded, longest_tokens=number, is_beginning=True) for number in (4, 8)]

    def answer_encoded(self, batch):
        (asked,) = batch
        assert asked.longest_tokens == 4 or self.go_on.wait(timeout=20)
        said = {"text": "abcdefgh"[: asked.longest_tokens], VERSION_FIELD: self.version}
        return [{**said, IS_WHOLE: asked.longest_tokens == 8}]


def test_an_answer_that_grows_is_shown_while_it_is_made(browser):
    model = Growing()
    with serving({"lm": model}) as running, opened(browser, running.url) as page:
        page.get_by_label("Beginning", exact=True).fill("begun: ")
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .large")).to_have_text("begun: abcd")
        expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
        model.go_on.set()
        expect(page.locator("#answer .large")).to_have_text("begun: abcdefgh")
        expect(page.locator("#answer")).to_contain_text(re.compile(r"version 0123456789ab.*round trip"))


def test_a_translation_is_shown_while_it_is_made(browser, translator, monkeypatch):
    monkeypatch.setattr("noria.data.pair_encoder._FIRST_TOKENS", 4)
    model = Recording(open_bundle(translator.bundle))
    source = "Send the old list for %(name)s with <b>care</b>"
    whole = model.answer([{"source": source}])[0]["text"]
    model.go_on.clear()
    with serving({"translator": model}, max_wait_ms=60_000) as running, opened(browser, running.url) as page:
        page.get_by_label("Text to translate").fill(source)
        page.get_by_role("button", name="Ask the model").click()
        shown = page.locator("#answer .large")
        expect(shown).not_to_be_empty()
        beginning = shown.inner_text()
        assert whole.startswith(beginning) and len(beginning) < len(whole)
        model.go_on.set()
        expect(shown).to_have_text(whole)
        expect(page.locator("#answer")).to_contain_text(re.compile(r"round trip"))


def test_a_token_is_asked_for_and_kept_nowhere(browser, monkeypatch):
    monkeypatch.setenv("NORIA_TOKEN", "secret")
    with (
        serving({"a": model_of("text-classification")}) as running,
        opened(browser, running.url, expected_errors=2) as page,  # the browser logs each 401 by itself
    ):
        field = page.get_by_label("Bearer token")
        expect(field).to_be_focused()
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The token is missing or wrong.")
        field.fill("secret")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .big")).to_contain_text("pos")
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
        assert "secret" not in page.evaluate(kept)
        assert "secret" not in page.content()


def test_whatever_a_model_a_card_or_a_journal_says_is_text(browser, reviews):
    reviews.app.state.models["reviews"].predictor._answer = lambda row: {"label": HOSTILE, "scores": {HOSTILE: 1.0}}
    with opened(browser, reviews.url) as page:
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .big")).to_contain_text(HOSTILE)
        expect(page.locator("#history")).to_contain_text(HOSTILE)
        page.get_by_text("Model card").click()
        expect(page.locator("#model-card table")).to_contain_text(HOSTILE)
        assert page.title() == "Noria"


def test_the_history_marks_what_is_live_and_what_is_tried_in_both_languages(browser, tmp_path):
    store = ModelStore(str(tmp_path / "store"), name="reviews", cache=tmp_path / "cache")
    first, second = (
        version_of(store.publish(tiny.opaque_bundle(tmp_path / name, name).path)) for name in ("first", "second")
    )
    live = store.promote(first, reason="first", over=None)
    store.try_out(second, mode="canary", share=0.05, reason="better", over=live)
    model = model_of("text-classification", version=first)
    with (
        serving({"reviews": model}, followed={"reviews": store}, follow_s=100) as running,
        opened(browser, running.url) as page,
    ):
        entry = page.locator("#history li", has_text="tried on requests")
        expect(entry).to_contain_text(second)
        expect(entry).to_contain_text("canary: 5.0% of requests")
        expect(page.locator("#history li", has_text="promoted")).to_contain_text("live")
        page.locator("#language").click()
        expect(page.locator("#history")).to_contain_text("灰度：5.0% 的请求")
        assert page.evaluate(TOO_PALE) == []


def test_refusals_are_told_in_words(browser, reviews):
    with opened(browser, reviews.url, expected_errors=2) as page:
        page.get_by_label("Text", exact=True).fill("")
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .refusal")).to_contain_text("A field is missing or wrong.")
        expect(page.locator("#answer")).to_contain_text("at least 1 character")
        page.route("**/predict", lambda route: route.fulfill(status=429, headers={"Retry-After": "7"}, json={}))
        page.get_by_role("button", name="Ask the model").click()
        expect(page.locator("#answer .refusal")).to_contain_text("Too much at once: try again in 7 s.")


def test_another_version_is_shown_with_its_card_without_a_reload(browser, reviews):
    with opened(browser, reviews.url) as page:
        expect(page.locator("#facts")).to_contain_text("0123456789ab")
        live = reviews.app.state.models["reviews"]
        live.predictor = FakePredictor("ba9876543210", answer=live.predictor._answer)
        expect(page.locator("#facts")).to_contain_text("ba9876543210", timeout=20_000)
        page.get_by_text("Model card").click()
        expect(page.locator("#model-card")).to_contain_text("This version has none.")
