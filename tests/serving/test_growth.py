"""A text that a model writes, piece by piece: the same to the letter, others in between, no work for nobody."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
from fake_model import serving, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording import Recording

from noria.config import GenerationConfig
from noria.data.pair_encoder import END, PairEncoder, load_pair_encoder
from noria.evaluation.judged import read_validation
from noria.export.generation import generation_parts
from noria.export.onnx import export_part
from noria.serving.bundle import open_bundle
from noria.serving.predictor import VERSION_FIELD, Predictor, onnx_run
from noria.training.checkpoint import load_trained

pytestmark = pytest.mark.slow

GREEDY = GenerationConfig(max_tokens=40)
LINES = {"Accept": "application/x-ndjson"}
LONG = {"prompt": "def read_line(word):", "max_new_tokens": 24, "temperature": 1.0, "seed": 3}
FORMS = ["fp32", "int8", "int8-static", "int8-weights"]
PROMPTS = st.fixed_dictionaries(
    {
        "prompt": st.one_of(
            st.text(max_size=60), st.sampled_from(["def read_", "def open_page(word):\n    for ", "家 👩‍👧"])
        ),
        "max_new_tokens": st.integers(1, 40),
        "temperature": st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        "top_k": st.sampled_from([0, 1, 20]),
        "top_p": st.sampled_from([0.3, 0.95, 1.0]),
        "seed": st.integers(0, 5),
    }
)
SOURCES = st.fixed_dictionaries(
    {
        "source": st.one_of(
            st.text(min_size=1, max_size=60),
            st.lists(
                st.sampled_from(
                    ["Delete", "Send my", "every", "page", "%(name)s", "<b>order</b>", "家 👩‍👧", "the old"]
                ),
                min_size=1,
                max_size=30,
            ).map(" ".join),
        )
    }
)


@pytest.fixture(scope="module")
def bundle(language_model):
    return open_bundle(language_model.bundle)


@pytest.fixture
def recording(bundle):
    return Recording(bundle)


@pytest.fixture
def short_steps(monkeypatch):
    """The texts of tests are short: a translation is first asked for 4 tokens."""
    monkeypatch.setattr("noria.data.pair_encoder._FIRST_TOKENS", 4)


def streamed(running, request):
    """The pieces, and the last line."""
    answer = running.client.post("/predict", json=request, headers=LINES)
    assert answer.status_code == 200
    *pieces, last = map(json.loads, answer.text.splitlines())
    return [piece["piece"] for piece in pieces], last


def numbers_of_pieces(bundle, graph, requests):
    """How many pieces answers came in, each of which was the whole answer."""
    predictor = Predictor(bundle)
    predictor._run = onnx_run(graph)
    numbers = set()

    with serving({"model": predictor}) as running:

        @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(requests)
        def are_the_whole(request):
            whole = running.client.post("/predict", json=request).json()
            pieces, last = streamed(running, request)
            assert "".join(pieces) == whole["text"]
            assert last == whole
            assert all(pieces)
            numbers.add(len(pieces))

        are_the_whole()
    return numbers


@pytest.mark.parametrize("form", FORMS)
def test_the_pieces_are_the_whole_answer_in_every_form_of_the_model_greedy_and_drawn(bundle, language_graphs, form):
    assert {1, 2} <= numbers_of_pieces(bundle, language_graphs[form], PROMPTS)


@pytest.mark.parametrize("form", FORMS)
def test_the_pieces_are_the_whole_translation_in_every_form_of_the_model(
    translator, translator_graphs, form, short_steps
):
    assert {1, 2} <= numbers_of_pieces(open_bundle(translator.bundle), translator_graphs[form], SOURCES)


def test_the_first_piece_takes_a_part_of_the_work_and_all_pieces_not_twice_the_whole(recording):
    with serving({"model": recording}) as running:
        pieces, last = streamed(running, LONG)
    numbers = [number for ((_, number),) in recording.batches]
    assert numbers == [12, 24]
    assert sum(numbers) < 2 * numbers[-1]
    assert len(pieces) == len(numbers)
    assert last == {"text": "".join(pieces), VERSION_FIELD: recording.version}


def test_an_answer_that_ended_is_not_asked_for_again(recording):
    with serving({"model": recording}) as running:
        for seed in range(40):
            before = len(recording.batches)
            _, last = streamed(running, {**LONG, "temperature": 3.0, "seed": seed})
            num_tokens = len(recording.bundle.encoder.encode({"prompt": last["text"]})["prompt"]) - 1
            assert len(recording.batches) - before == 2 or num_tokens <= 12
        assert any(len(batch) == 1 for batch in recording.batches)


def test_others_are_answered_between_two_pieces(recording):
    recording.go_on.clear()
    short = {"prompt": "def", "max_new_tokens": 2, "temperature": 0}
    with serving({"model": recording}, max_wait_ms=20_000) as running, ThreadPoolExecutor(2) as pool:
        long = pool.submit(streamed, running, LONG)
        until(lambda: len(recording.batches) == 2)
        other = pool.submit(httpx.post, f"{running.url}/predict", json=short, timeout=20)
        until(lambda: running.app.state.models["model"].batcher.num_waiting == 1)
        recording.go_on.set()
        assert other.result().status_code == 200
        assert long.result()[0]
    prompts = [batch[0][0] for batch in recording.batches]
    assert prompts == [LONG["prompt"], LONG["prompt"], "def"]


def test_what_is_streamed_is_computed_alone_so_that_no_neighbour_changes_it(recording):
    recording.go_on.clear()
    with serving({"model": recording}, max_wait_ms=20_000) as running, ThreadPoolExecutor(8) as pool:
        streams = [pool.submit(streamed, running, {**LONG, "seed": seed}) for seed in range(4)]
        until(lambda: len(recording.batches) >= 2)
        others = [pool.submit(httpx.post, f"{running.url}/predict", json=LONG, timeout=20) for _ in range(4)]
        recording.go_on.set()
        assert all("".join(one.result()[0]) == one.result()[1]["text"] for one in streams)
        assert all(other.result().status_code == 200 for other in others)
    assert all(len(batch) == 1 for batch in recording.batches if batch[0][1] == 12)


def test_a_client_that_leaves_stops_the_work_and_frees_its_place(recording):
    recording.go_on.clear()
    with serving({"model": recording}, max_wait_ms=20_000) as running:
        with running.client.stream("POST", "/predict", json=LONG, headers=LINES) as answer:
            assert json.loads(next(answer.iter_lines()))["piece"]
            until(lambda: len(recording.batches) == 2)
        until(lambda: running.app.state.models["model"].admission.num_requests == 0)
        recording.go_on.set()
        until(lambda: running.app.state.models["model"].batcher.num_waiting == 0)
    assert len(recording.batches) == 2


def test_many_requests_come_answer_by_answer_and_a_wrong_one_has_its_status(recording):
    with serving({"model": recording}) as running:
        many = running.client.post("/predict", json={"inputs": [LONG, LONG]}, headers=LINES)
        assert [sorted(json.loads(line)) for line in many.text.splitlines()] == [[VERSION_FIELD, "text"]] * 2
        assert running.app.state.models["model"].lineup.champion.tally.answers == 1  # as every request of many rows
        assert running.client.post("/predict", json={"prompt": 5}, headers=LINES).status_code == 422
        assert running.client.get("/about").json()["models"][0]["grows"]


def test_what_fails_between_two_pieces_is_an_error_in_its_line(recording):
    def fails_at_last(batch, answer=recording.answer_encoded):
        if len(recording.batches) == 1:
            raise RuntimeError("the graph failed")
        return answer(batch)

    recording.answer_encoded = fails_at_last
    with serving({"model": recording}) as running:
        answer = running.client.post("/predict", json=LONG, headers=LINES)
        first, last = map(json.loads, answer.text.splitlines())
    assert first["piece"]
    assert "the model failed" in last["error"]["what"]
    assert last["request_id"] == answer.headers["X-Request-ID"]


def test_a_translation_is_asked_for_more_until_it_ends_by_itself(translator, short_steps):
    recording = Recording(open_bundle(translator.bundle))
    sources = [str(row["source"]) for row in read_validation(translator.splits)[:12]]
    numbers = set()
    with serving({"model": recording}) as running:
        assert running.client.get("/about").json()["models"][0]["grows"]
        for source in sources:
            (output,) = recording.outputs([{"source": source}])
            assert output["tokens"][-1] == END
            recording.batches.clear()
            _, last = streamed(running, {"source": source})
            asked = [most for ((_, most),) in recording.batches]
            assert asked == [4, 8, 16, 32][: len(asked)]
            assert asked[-1] >= len(output["tokens"]) > asked[-1] // 2 or asked == [4]
            assert last == recording.answer([{"source": source}])[0]
            numbers.add(len(asked))
    assert len(numbers) > 1


def test_with_beams_a_beginning_may_change_so_that_only_the_whole_is_sent(translator):
    bundle = open_bundle(translator.bundle)
    settings_of = replace(bundle.encoder._settings, beams=2)
    searching = replace(bundle, encoder=PairEncoder(bundle.encoder._tokenizer, settings_of))
    with serving({"model": Predictor(searching)}) as running:
        assert not running.client.get("/about").json()["models"][0]["grows"]
        assert streamed(running, {"source": "Delete this page"})[0] == []
        assert running.app.state.models["model"].lineup.champion.tally.answers == 1  # as of any client


def test_a_bundle_of_before_knows_nothing_of_beginnings_and_answers_as_it_did(translator, tmp_path):
    """Its graph takes the source alone, and its encoder does not say what beams there are."""
    trained = load_trained(translator.checkpoint, scenario=translator.scenario)
    trained.encoder.save(tmp_path)
    written = json.loads((tmp_path / "encoder.json").read_text())
    del written["beams"]
    (tmp_path / "encoder.json").write_text(json.dumps(written))
    parts = generation_parts(trained.model, {"source": np.array([[5, 6, 2], [7, 2, 0]])}, config=GREEDY)
    graphs = {part.name: tmp_path / f"{part.name}.onnx" for part in parts.parts}
    for part in parts.parts:
        export_part(part, graphs[part.name], opset=20)
    parts.join(graphs, tmp_path / "model.onnx")
    bundle = open_bundle(translator.bundle)
    before = Predictor(replace(bundle, encoder=load_pair_encoder(tmp_path)))
    before._run = onnx_run(tmp_path / "model.onnx")
    request = {"source": "Delete this page"}
    with serving({"model": before}) as running:
        assert not running.client.get("/about").json()["models"][0]["grows"]
        assert streamed(running, request) == ([], Predictor(bundle).answer([request])[0])
