"""A language model's answer piece by piece: the same text to the letter, others in between, no work for nobody."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fake_model import serving, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.serving.bundle import open_bundle
from noria.serving.predictor import VERSION_FIELD, Predictor, onnx_run

pytestmark = pytest.mark.slow

LINES = {"Accept": "application/x-ndjson"}
LONG = {"prompt": "def read_line(word):", "max_new_tokens": 24, "temperature": 1.0, "seed": 3}
REQUESTS = st.fixed_dictionaries(
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


class Recording(Predictor):
    """Remembers what was computed together, and waits before the second beginning until `go_on` is set."""

    def __init__(self, bundle):
        super().__init__(bundle)
        self.batches = []
        self.go_on = threading.Event()
        self.go_on.set()

    def answer_encoded(self, batch):
        self.batches.append([(e.row["prompt"], int(e.pieces[0]["max_new_tokens"][0])) for e in batch])
        if len(self.batches) > 1 and batch[0].is_beginning:
            assert self.go_on.wait(timeout=20)
        return super().answer_encoded(batch)


@pytest.fixture(scope="module")
def bundle(language_model):
    return open_bundle(language_model.bundle)


@pytest.fixture
def recording(bundle):
    return Recording(bundle)


def streamed(running, request):
    """The pieces, and the last line."""
    answer = running.client.post("/predict", json=request, headers=LINES)
    assert answer.status_code == 200
    *pieces, last = map(json.loads, answer.text.splitlines())
    return [piece["piece"] for piece in pieces], last


@pytest.mark.parametrize("form", ["fp32", "int8", "int8-weights"])
def test_the_pieces_are_the_whole_answer_in_every_form_of_the_model_greedy_and_drawn(bundle, language_graphs, form):
    predictor = Predictor(bundle)
    predictor._run = onnx_run(language_graphs[form])
    endings = set()

    with serving({"model": predictor}) as running:

        @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(REQUESTS)
        def are_the_whole(request):
            whole = running.client.post("/predict", json=request).json()
            pieces, last = streamed(running, request)
            assert "".join(pieces) == whole["text"]
            assert last == whole
            assert all(pieces)
            endings.add(len(pieces))

        are_the_whole()
    assert {1, 2} <= endings


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
