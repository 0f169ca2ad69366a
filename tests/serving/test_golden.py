"""Golden requests: the same answers within rounding, the same texts but for a late turn."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from noria.errors import BundleError
from noria.scenarios import load_scenario
from noria.serving.bundle import open_bundle
from noria.serving.golden import LEAST_AGREEMENT, prove
from noria.serving.predictor import Predictor, onnx_run


def prover(tmp_path, scenario, pairs):
    """What was answered when the bundle was made, and what is answered now."""
    scenario = load_scenario(scenario)
    path = tmp_path / "golden.json"
    path.write_text(json.dumps([{"request": scenario.example, "response": expected} for expected, _ in pairs]))
    answers = iter([found for _, found in pairs])
    return SimpleNamespace(
        bundle=SimpleNamespace(scenario=scenario, golden=path), answer=lambda rows: [next(answers) for _ in rows]
    )


def texts(*pairs):
    return [({"text": before}, {"text": now}) for before, now in pairs]


@pytest.mark.parametrize(
    "pairs",
    [
        texts(("a line", "a line")),
        texts(("a line of words", "a line of works")),
        texts(*[("the same", "the same")] * 9, ("one", "other")),
        texts(("", "")),
        [],
    ],
)
def test_texts_that_turn_late_or_seldom_prove_the_model(tmp_path, pairs):
    assert prove(prover(tmp_path, "language-modelling", pairs)) == len(pairs)


@pytest.mark.parametrize(
    "pairs",
    [
        texts(("a line", "another")),
        texts(("a line of words", "")),
        texts(("", "a line of words")),
        texts(*[("the same", "the same")] * 3, ("one", "two")),
        texts(("half of it is", "half of is it")),
    ],
)
def test_texts_that_turn_early_or_often_do_not(tmp_path, pairs):
    with pytest.raises(BundleError, match="does not answer as it did"):
        prove(prover(tmp_path, "language-modelling", pairs))


def test_the_answer_that_agrees_least_is_named(tmp_path):
    pairs = texts(("abcdef", "abcdxx"), ("abcdef", "xxxxxx"))
    with pytest.raises(BundleError, match="xxxxxx"):
        prove(prover(tmp_path, "language-modelling", pairs))


def test_what_goes_with_the_same_text_must_be_the_same(tmp_path):
    kept, lost = ({"text": "%s", "placeholders_kept": value} for value in (True, False))
    with pytest.raises(BundleError):
        prove(prover(tmp_path, "translation", [(kept, lost)]))


@pytest.mark.parametrize(("now", "is_same"), [(0.7004, True), (0.7011, False), ("0.7", False), (None, False)])
def test_numbers_are_the_same_within_rounding_and_labels_exactly(tmp_path, now, is_same):
    pairs = [({"label": "pos", "scores": {"pos": 0.7}}, {"label": "pos", "scores": {"pos": now}})]
    proof = prover(tmp_path, "text-classification", pairs * 2)
    if is_same:
        assert prove(proof) == 2
    else:
        with pytest.raises(BundleError):
            prove(proof)


@pytest.mark.slow
def test_a_model_that_rounds_otherwise_is_the_same_and_one_with_other_weights_is_not(
    language_model, language_graphs, tmp_path
):
    predictor = Predictor(open_bundle(language_model.bundle))
    assert 0 < LEAST_AGREEMENT < 1
    for form in ("fp32", "int8", "int8-weights"):
        predictor._run = onnx_run(language_graphs[form])
        assert prove(predictor) > 1
    graph, draw = onnx.load(str(language_graphs["fp32"])), np.random.default_rng(0)
    for weight in graph.graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype == np.float32 and array.size > 1_000:
            noise = draw.normal(scale=array.std(), size=array.shape).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(array + noise, weight.name))
    onnx.save(graph, str(tmp_path / "noisy.onnx"))
    predictor._run = onnx_run(tmp_path / "noisy.onnx")
    with pytest.raises(BundleError):
        prove(predictor)
