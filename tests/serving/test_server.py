"""The server as a process of its own, on a free port."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from server_process import go_live, running

from noria.cli import main
from noria.config import ServeConfig
from noria.errors import BundleError
from noria.serving.bundle import version_of
from noria.serving.server import listen
from noria.serving.store import store_of


@pytest.fixture(scope="module")
def served(optimized, tmp_path_factory):
    """A workspace whose bundle is live."""
    return go_live(optimized, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def server(served):
    """A client of the server, and the version that is live."""
    with running(served) as process, httpx.Client(base_url=process.url, timeout=30) as client:
        yield client, store_of(served).production().version


@pytest.mark.slow
def test_several_workspaces_are_served_together(served, optimized, tmp_path):
    (tmp_path / "params.yaml").write_text(served.params.read_text().replace("name: tiny", "name: other"))
    other = type(optimized)(tmp_path)
    store = store_of(other)
    store.promote(version_of(store.publish(optimized.bundle)), reason="test", over=None)
    with running(served, other) as process:
        for path in ("/predict", "/models/tiny/predict", "/models/other/predict"):
            assert httpx.post(process.url + path, json={"text": "好"}).json()["label"] in ("neg", "pos")


def test_two_workspaces_with_one_name_are_one_clear_error(served, capsys):
    assert main(["serve", "-C", str(served.root), "-C", str(served.root)]) == 2
    assert "two workspaces call their model `tiny`" in capsys.readouterr().err


def test_a_body_that_never_ends_does_not_hold_up_the_end(served):
    with ExitStack() as after:  # noqa: SIM117 - the connection stays open while the server ends
        with running(served, before="from noria.serving import server; server._GRACE_S = 1") as process:
            client = after.enter_context(process.connect())
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            assert httpx.get(f"{process.url}/healthz").status_code == 200


def test_health_and_readiness_name_the_version(server):
    client, version = server
    assert client.get("/healthz").json() == {"status": "alive", "model_version": version}
    assert client.get("/readyz").json() == {"status": "ready", "model_version": version}


def test_one_request_gets_one_answer_and_many_get_many_in_order(server):
    client, version = server
    texts = ["好棒快", "差坏烂，物流慢", "好"]
    one = client.post("/predict", json={"text": texts[0]}).json()
    assert one["label"] in ("neg", "pos")
    assert one["model_version"] == version
    many = client.post("/predict", json={"inputs": [{"text": text} for text in texts]}).json()
    assert many["model_version"] == version
    assert [answer["label"] for answer in many["outputs"]] == [
        client.post("/predict", json={"text": text}).json()["label"] for text in texts
    ]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[1]", 400, "not a JSON object"),
        (b"{}", 422, "`text`: Field required"),
        (b'{"text": 5}', 422, "`text`: Input should be a valid string"),
        (b'{"text": ""}', 422, "at least 1 character"),
        (b'{"text": "x", "label": "y"}', 422, "`label`: Extra inputs"),
        (b'{"inputs": []}', 422, "holds no requests"),
        (b'{"inputs": [{"text": "x"}, {"text": null}]}', 422, "`inputs.1.text`"),
        (b'{"inputs": [1,2,3,4,5]}', 413, "holds 5 requests"),
        (b'{"text": "' + b"x" * 3000 + b'"}', 413, "too long"),
        (b"[" * 2000, 400, "not JSON"),
        (b'{"text": "\\ud800"}', 422, "`text`"),
        (b'{"text": "x", "\\ud800": 1}', 422, "valid string"),
        (b'{"text": "x", "' + b"k" * 1000 + b'": 1}', 422, f"`{'k' * 100}`: Extra inputs"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_and_by_which_model(server, body, status, said):
    client, version = server
    answer = client.post("/predict", content=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["what"]
    assert answer.json()["error"]["expected"]
    assert answer.json()["model_version"] == version


def test_what_is_not_served_is_refused_in_json(server):
    client, _ = server
    assert client.get("/nowhere").status_code == 404
    assert client.get("/predict").status_code == 405
    assert "POST /predict" in client.get("/nowhere").json()["error"]["expected"]


def test_concurrent_requests_get_their_own_answers(server):
    client, _ = server
    texts = [f"{'好' * (i % 7 + 1)}{'差' * (i % 5)}" for i in range(60)]
    alone = {text: client.post("/predict", json={"text": text}).json() for text in texts}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: client.post("/predict", json={"text": text}).json(), texts))
    for text, answer in zip(texts, answers, strict=True):  # int8 scales by batch: near a tie, scores move
        assert answer["scores"] == pytest.approx(alone[text]["scores"], abs=0.25)


def test_a_port_that_is_taken_is_one_clear_error():
    with listen(ServeConfig(port=0)) as first, pytest.raises(BundleError, match="can't listen"):
        listen(ServeConfig(port=first.getsockname()[1]))


def test_an_answer_does_not_wait_for_company_in_tcp():
    with listen(ServeConfig(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_beyond_the_last_is_one_clear_error():
    with pytest.raises(BundleError, match="can't listen"):
        listen(ServeConfig().model_copy(update={"port": 70_000}))


def test_the_documentation_shows_a_request_and_an_answer(server):
    client, _ = server
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    assert content["examples"]["one"]["value"]["text"]
    assert "$ref" not in json.dumps(operation)  # nothing that a reader could not resolve
    one, many = content["schema"]["anyOf"]
    assert many["properties"]["inputs"]["items"] == one
    assert client.get("/docs").status_code == 200
