"""The Open Inference Protocol, version 2: what its specification says of bodies, and that ours are so."""

import json
from types import SimpleNamespace

import jsonschema
import pytest
from fake_model import FakePredictor, serving
from pydantic import BaseModel

from noria.scenarios import load_scenario
from noria.scenarios.base import Scenario
from noria.serving.tensors import Tensor, tensors_of

# As open_inference_rest.yaml of kserve/open-inference-protocol has them.
TEXTS = {"type": "array", "items": {"type": "string"}}
SHAPE = {"type": "array", "items": {"type": "integer"}}
TENSOR = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "datatype": {"type": "string"}, "shape": SHAPE},
    "required": ["name", "datatype", "shape"],
}
SERVER = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "version": {"type": "string"}, "extensions": TEXTS},
    "required": ["name", "version", "extensions"],
}
MODEL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "versions": TEXTS,
        "platform": {"type": "string"},
        "inputs": {"type": "array", "items": TENSOR},
        "outputs": {"type": "array", "items": TENSOR},
    },
    "required": ["name", "platform", "inputs", "outputs"],
}
DATA = {"type": "array", "items": {"type": ["number", "string", "boolean", "array"]}}
INFERENCE = {
    "type": "object",
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "outputs": {
            "type": "array",
            "items": {**TENSOR, "properties": {**TENSOR["properties"], "data": DATA}, "required": ["name", "data"]},
        },
    },
    "required": ["model_name", "outputs"],
}
ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"], "maxProperties": 1}
LIVE = {"type": "object", "properties": {"live": {"type": "boolean"}}, "required": ["live"]}
READY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}},
    "required": ["name", "ready"],
}
DATATYPES = {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"}
SCENARIOS = (
    "text-classification",
    "translation",
    "language-modelling",
    "image-classification",
    "image-text-classification",
    "question-answering",
    "recommendation",
    "speech-recognition",
)


@pytest.fixture(scope="module")
def client():
    with serving({"reviews": FakePredictor()}, max_batch_rows=8, max_body_bytes=5_000) as running:
        yield running.client


def texts(*data, **changes):
    """A body that asks for these."""
    return {"inputs": [{"name": "text", "shape": [len(data)], "datatype": "BYTES", "data": list(data), **changes}]}


def infer(client, body, *, path="/v2/models/reviews/infer"):
    return client.post(path, json=body)


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v2", SERVER),
        ("/v2/", SERVER),
        ("/v2/health/live", LIVE),
        ("/v2/health/ready", LIVE),
        ("/v2/models/reviews", MODEL),
        ("/v2/models/reviews/versions/v1", MODEL),
        ("/v2/models/reviews/ready", READY),
        ("/v2/models/reviews/versions/v1/ready", READY),
    ],
)
def test_metadata_and_health_are_as_specified(client, path, schema):
    answer = client.get(path)
    assert answer.status_code == 200
    jsonschema.validate(answer.json(), schema)


def test_a_model_describes_its_fields_as_tensors_of_a_row_each(client):
    model = client.get("/v2/models/reviews").json()
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert model["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "scores", "datatype": "BYTES", "shape": [-1]},
    ]
    assert model["versions"] == ["v1"]


@pytest.mark.parametrize("path", ["/v2/models/reviews/infer", "/v2/models/reviews/versions/v1/infer"])
def test_rows_are_answered_in_order_with_the_id_of_the_request(client, path):
    answer = infer(client, {"id": "42", "parameters": {"priority": 1}, **texts("good", "bad", "fine")}, path=path)
    assert answer.status_code == 200
    found = answer.json()
    jsonschema.validate(found, INFERENCE)
    assert (found["id"], found["model_name"], found["model_version"]) == ("42", "reviews", "v1")
    label, scores = found["outputs"]
    assert (label["data"], label["shape"], label["datatype"]) == (["good", "bad", "fine"], [3], "BYTES")
    assert list(map(json.loads, scores["data"])) == [{"good": 1.0}, {"bad": 1.0}, {"fine": 1.0}]


def test_data_may_be_nested_and_outputs_chosen(client):
    answer = infer(client, texts(["good"], ["bad"], shape=[2, 1]) | {"outputs": [{"name": "label"}]})
    assert [output["name"] for output in answer.json()["outputs"]] == ["label"]
    assert answer.json()["outputs"][0]["data"] == ["good", "bad"]
    assert "id" not in answer.json()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "`inputs`"),
        ({"inputs": []}, 400, "`inputs`"),
        ({"inputs": "text"}, 400, "`inputs`"),
        ({"id": 5, **texts("x")}, 400, "`id`"),
        (texts("x", name="other"), 400, "no such input"),
        (texts("x", datatype="INT64"), 400, "datatype is INT64"),
        (texts("x", shape=[2]), 400, "2 elements, and its data has 1"),
        (texts("x", shape=[]), 400, "shape"),
        (texts("x", shape=[0]), 400, "shape"),
        (texts("x", shape=[-1]), 400, "shape"),
        (texts("x", shape=[1, 2]), 400, "shape"),
        (texts("x", shape=[1.5]), 400, "shape"),
        (texts(shape=[1]), 400, "its data has 0"),
        (texts("x", shape=[10**30]), 413, "requests"),
        (texts(*["x"] * 9), 413, "9 requests"),
        (texts(*[["x"] * 9], shape=[1]), 400, "its data has 9"),
        (texts(5), 400, "no BYTES"),
        (texts(None), 400, "no BYTES"),
        (texts(True), 400, "no BYTES"),
        (texts(""), 422, "at least 1 character"),
        (texts("x" * 6_000), 413, "too long"),
        ({"inputs": texts("x")["inputs"] * 2}, 400, "given twice"),
        (texts("x") | {"outputs": [{"name": "mood"}]}, 400, "output `mood`"),
        (texts("fail"), 500, "the model failed"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_in_the_shape_that_is_specified(client, body, status, said):
    answer = infer(client, body)
    assert answer.status_code == status, answer.text
    jsonschema.validate(answer.json(), ERROR)
    assert said in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/reviews/versions/v2", "/v2/models/x/ready", "/v2/x"])
def test_what_is_not_there_is_an_error_as_specified(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    jsonschema.validate(answer.json(), ERROR)


def test_no_other_version_answers(client):
    answer = infer(client, texts("good"), path="/v2/models/reviews/versions/v2/infer")
    assert answer.status_code == 404
    assert "v1" in answer.json()["error"]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 4_000, b'{"inputs": [{"shape": [NaN]}]}', b"[]", b""])
def test_what_is_no_json_is_an_error_as_specified(client, body):
    answer = client.post("/v2/models/reviews/infer", content=body)
    assert answer.status_code == 400
    jsonschema.validate(answer.json(), ERROR)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_fields_of_every_scenario_are_tensors(name):
    scenario = load_scenario(name)
    for model in (scenario.request, scenario.response):
        tensors = tensors_of(model)
        assert [tensor.name for tensor in tensors] == list(model.model_fields)
        assert {tensor.datatype for tensor in tensors} <= DATATYPES | {"BYTES"}


def test_fields_that_are_no_text_are_numbers_or_json():
    class Request(BaseModel):
        history: list[str]
        k: int = 10
        temperature: float = 1.0
        is_new: bool = False
        include_seen: bool | None = None

    class Listening(FakePredictor):
        def __init__(self):
            super().__init__()
            own = {"request": Request, "row_of": self.heard_of, "example": {"history": ["a"]}}
            self.bundle = SimpleNamespace(scenario=Scenario(**vars(self.bundle.scenario) | own))
            self.heard = []

        def heard_of(self, request):
            self.heard.append(request.model_dump())
            return {"text": ",".join(request.history)}

    assert tensors_of(Request)[:2] == [
        Tensor("history", "BYTES", is_json=True, is_required=True),
        Tensor("k", "INT64", is_json=False, is_required=False),
    ]
    listening = Listening()

    def ask(running, **columns):
        inputs = [
            {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}
            for name, (datatype, data) in columns.items()
        ]
        return infer(running.client, {"inputs": inputs}, path="/v2/models/shop/infer")

    with serving({"shop": listening}) as running:
        history = ("BYTES", ['["a", "b"]', "[]"])
        answer = ask(
            running,
            history=history,
            k=("INT64", [3, 4]),
            temperature=("FP64", [1, 0.5]),
            is_new=("BOOL", [True, False]),
        )
        assert answer.status_code == 200, answer.text
        assert listening.heard == [
            {"history": ["a", "b"], "k": 3, "temperature": 1.0, "is_new": True, "include_seen": None},
            {"history": [], "k": 4, "temperature": 0.5, "is_new": False, "include_seen": None},
        ]
        for said, columns in {
            "is missing": {"k": ("INT64", [1])},
            "not JSON": {"history": ("BYTES", ["[NaN]"])},
            "no INT64": {"history": ("BYTES", ["[]"]), "k": ("INT64", [True])},
            "elements": {"history": history, "k": ("INT64", [1])},
            "`row 0.history.0`": {"history": ("BYTES", ["[5]"])},
        }.items():
            assert said in ask(running, **columns).json()["error"]


@pytest.mark.parametrize("field", ["id", "name", "datatype", "outputs"])
def test_what_is_no_unicode_is_refused_and_not_a_failure_of_the_model(client, field):
    body = texts("good")
    if field == "id":
        body["id"] = "\ud800"
    elif field == "outputs":
        body["outputs"] = [{"name": "\ud800"}]
    else:
        body["inputs"][0][field] = "\ud800"
    answer = client.post("/v2/models/reviews/infer", content=json.dumps(body))
    assert answer.status_code == 400
    assert "error" in answer.json()
