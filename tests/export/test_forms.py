"""Every form by its name: built, loaded, and close to PyTorch; one that can't be is passed over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from noria.errors import ExportError
from noria.evaluation.inference import logits_of, outputs_of
from noria.evaluation.judged import read_validation
from noria.export.candidates import choose, judge_candidates
from noria.export.forms import FORMS, FP32, build_graphs
from noria.export.memory import peak_bytes
from noria.export.onnx import node_counts
from noria.export.reference import Reference, read_calibration, reference_of
from noria.serving.predictor import onnx_run
from noria.training.checkpoint import load_trained

_SMALLEST_PROCESS_BYTES, _LARGEST_PROCESS_BYTES = 10 << 20, 400 << 20


@pytest.fixture(scope="module")
def reference(trained) -> Reference:
    checkpoint = load_trained(trained.checkpoint, scenario=trained.scenario)
    return reference_of(
        checkpoint.model,
        encoder=checkpoint.encoder,
        scenario=trained.scenario,
        rows=read_validation(trained.splits),
        calibration=read_calibration(trained.splits),
    )


@pytest.fixture(scope="module")
def graphs(reference, trained, tmp_path_factory):
    config = trained.config.optimize.model_copy(update={"candidates": (FP32, *FORMS)})
    return build_graphs(reference, tmp_path_factory.mktemp("forms"), config=config)


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("fused", "MultiHeadAttention"),
        ("fp16", "Cast"),
        ("int8", "MatMulInteger"),
        ("int8-static", "QuantizeLinear"),
        ("int8-weights", "MatMulNBits"),
        ("int4-weights", "MatMulNBits"),
    ],
)
def test_a_form_has_its_nodes_and_says_what_pytorch_says_of_nearly_every_row(reference, graphs, name, node):
    assert node_counts(graphs[name])[node] >= 1
    found = outputs_of(reference.rows, encoder=reference.encoder, run=onnx_run(graphs[name]))
    assert np.mean(logits_of(found).argmax(1) == logits_of(reference.outputs).argmax(1)) > 0.95


def test_half_precision_is_half_the_size_and_takes_and_gives_what_the_whole_does(reference, graphs):
    half, whole = (onnx.load(str(graphs[name])).graph for name in ("fp16", "fused"))
    kinds = {weight.data_type for weight in half.initializer if len(weight.dims) == 2}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert graphs["fp16"].stat().st_size < 0.65 * graphs["fused"].stat().st_size
    for one, other in ((half.input, whole.input), (half.output, whole.output)):
        assert [(put.name, put.type.tensor_type.elem_type) for put in one] == [
            (put.name, put.type.tensor_type.elem_type) for put in other
        ]
    found = outputs_of(reference.rows, encoder=reference.encoder, run=onnx_run(graphs["fp16"]))
    assert np.allclose(logits_of(found), logits_of(reference.outputs), atol=0.1)


def test_calibration_rows_are_training_rows_and_always_the_same(reference, trained):
    judging = {row["id"] for row in reference.rows}
    assert reference.calibration and not judging & {row["id"] for row in reference.calibration}
    assert read_calibration(trained.splits) == reference.calibration


def test_what_can_not_be_built_or_run_is_reported_and_passed_over(reference, trained, tmp_path):
    config = trained.config.optimize.model_copy(update={"candidates": ("fp32", "int8", "int8-static")})
    graphs = dict(build_graphs(replace(reference, calibration=()), tmp_path, config=config))
    assert isinstance(graphs["int8-static"], ExportError)
    broken = onnx.load(str(graphs["int8"]))
    next(node for node in broken.graph.node if node.op_type == "MatMulInteger").op_type = "NoSuchOperator"
    onnx.save(broken, str(graphs["int8"]))
    candidates = judge_candidates(reference, graphs, config=config, evaluate=trained.config.evaluate)
    chosen, reason = choose(candidates, config=config)
    assert chosen.name == "fp32"
    assert "int8 was passed over: can't be run: ONNX Runtime" in reason
    assert "int8-static was passed over: can't be built: int8-static has no rows to calibrate by" in reason


@pytest.mark.parametrize("error", [AssertionError, KeyError("x"), TypeError, ValueError("no such node\nand more")])
def test_what_a_quantizer_of_others_raises_passes_a_form_over(reference, trained, tmp_path, monkeypatch, error):
    def fails(*arguments, **settings):
        raise error

    monkeypatch.setattr("noria.export.quantize.quantize_dynamic", fails)
    config = trained.config.optimize.model_copy(update={"candidates": ("fp32", "int8")})
    graphs = build_graphs(reference, tmp_path, config=config)
    assert isinstance(graphs["int8"], ExportError)
    assert "ONNX Runtime can't quantize this graph: " in graphs["int8"].what


def test_a_bug_of_ours_in_a_form_is_no_verdict(reference, trained, tmp_path, monkeypatch):
    def fails(*arguments, **settings):
        raise KeyError("ours")

    monkeypatch.setattr("noria.export.quantize._quantizable", fails)
    config = trained.config.optimize.model_copy(update={"candidates": ("fp32", "int8")})
    with pytest.raises(KeyError, match="ours"):
        build_graphs(reference, tmp_path, config=config)


def test_a_model_without_a_transformer_has_no_fused_form(reference, trained, tmp_path):
    model = load_trained(trained.checkpoint, scenario=trained.scenario).model
    model.deep = None
    config = trained.config.optimize.model_copy(update={"candidates": ("fp32", "fused")})
    graphs = build_graphs(replace(reference, model=model), tmp_path, config=config)
    assert isinstance(graphs["fused"], ExportError) and "no attention became one node" in str(graphs["fused"])


def test_memory_is_that_of_a_process_with_onnx_runtime_alone(reference, graphs, tmp_path):
    batch = reference.batches(rows=1, repeats=1)[0]
    assert _SMALLEST_PROCESS_BYTES < peak_bytes(graphs["int8"], batch) < _LARGEST_PROCESS_BYTES
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"does not run in a process of its own.*refuses the graph"):
        peak_bytes(tmp_path / "no.onnx", batch)
