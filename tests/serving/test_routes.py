"""Several models in one server, hostile bodies, metrics, documentation."""

import json
import socket
from urllib.parse import urlsplit

import pytest
from fake_model import EXAMPLE, FakePredictor, samples, serving


@pytest.fixture(scope="module")
def running():
    models = {"first": FakePredictor("v1"), "second": FakePredictor("v2")}
    with serving(models, max_batch_rows=4, max_body_bytes=20_000) as both:
        yield both


def test_each_model_has_its_routes_and_the_first_is_the_default(running):
    for path, version in (("/predict", "v1"), ("/models/first/predict", "v1"), ("/models/second/predict", "v2")):
        assert running.client.post(path, json=EXAMPLE).json()["model_version"] == version
    refused = running.client.post("/models/second/predict", json={})
    assert (refused.status_code, refused.json()["model_version"]) == (422, "v2")
    assert running.client.post("/models/third/predict", json=EXAMPLE).status_code == 404
    for name, version in (("first", "v1"), ("second", "v2")):
        assert running.client.get(f"/v2/models/{name}").json()["versions"] == [version]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"NaN", 400),
        (b'{"text": NaN}', 400),
        (b'{"text": Infinity}', 400),
        (b'{"text": 1e999}', 422),
        (b'{"text": ' + b"1" * 10_000 + b"}", 400),
        (b'{"text": {"text": "x"}}', 422),
        (b'{"text": ["x"]}', 422),
        (b'{"inputs": {"text": "x"}}', 422),
        (b'{"inputs": [[[["x"]]]]}', 422),
        (b'{"inputs": [{"text": "x"}], "text": "x"}', 200),
        (b'{"text": "a", "text": "b"}', 200),
        ('{"text": "好"}'.encode("utf-16"), 400),
        (b'{"text": "\xc3\x28"}', 400),
        (b'{"text": "\\u0000"}', 200),
        (b"[" * 15_000, 400),
        (b'{"a":' * 3_000 + b"1" + b"}" * 3_000, 400),
        (b'{"text": "' + b"x" * 30_000 + b'"}', 413),
    ],
)
def test_a_hostile_body_is_refused_or_answered_and_never_breaks_the_server(running, body, status):
    answer = running.client.post("/predict", content=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Request-ID"]
    assert len(answer.text) < 2_000
    assert running.client.post("/predict", json=EXAMPLE).status_code == 200


def test_a_body_that_is_too_long_is_refused_before_it_is_sent(running):
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert b" 413 " in client.recv(1_000)


def test_bytes_that_are_no_http_end_nothing_but_their_connection(running):
    address = urlsplit(running.url)
    for sent in (
        b"\x16\x03\x01" * 100 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/9\r\n\r\n",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            client.recv(1_000)
    assert running.client.get("/healthz").status_code == 200


def test_metrics_count_requests_rows_tokens_and_refusals_with_few_labels():
    with serving({"first": FakePredictor("v1")}) as running:
        running.client.post("/predict", json={"inputs": [{"text": "abc"}, {"text": "abcd"}]})
        running.client.post("/predict", json={})
        for i in range(30):
            running.client.get(f"/random/{i}")
        found = samples(running)
        assert found["noria_requests_total", "/predict", "200"] == 1
        assert found["noria_requests_total", "/predict", "422"] == 1
        assert found["noria_requests_total", "404", "none"] == 30
        assert found["noria_refusals_total", "invalid"] == 1
        assert found["noria_batch_rows_sum", "first"] == 2
        assert found["noria_tokens_total", "first"] == 7
        assert found["noria_queue_rows", "first"] == 0
        assert found["noria_requests_inside", "first"] == 0
        assert found["noria_model_info", "champion", "first", "text-classification", "v1"] == 1
        assert found["noria_request_seconds_count", "/predict"] == 2
        running.app.state.models["first"].predictor = FakePredictor("v2")
        assert ("noria_model_info", "champion", "first", "text-classification", "v2") in samples(running)
        assert ("noria_model_info", "champion", "first", "text-classification", "v1") not in samples(running)


def test_a_second_application_counts_for_itself(running):
    with serving({"first": FakePredictor()}) as other:
        other.client.post("/predict", json=EXAMPLE)
        assert samples(other)["noria_requests_total", "/predict", "200"] == 1


def test_the_documentation_has_examples_that_work(running):
    paths = running.client.get("/openapi.json").json()["paths"]
    tried = 0
    for path, operations in paths.items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            filled = path.replace("{name}", "first").replace("{version}", "v1")
            assert running.client.post(filled, json=example["value"]).status_code == 200, path
            tried += 1
    assert tried >= 10
    assert "$ref" not in json.dumps([paths[path] for path in paths if path.endswith(("predict", "infer"))])
