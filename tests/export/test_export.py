"""ONNX graphs of a trained model: parity, open sizes, fusion, int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from noria.errors import ExportError
from noria.evaluation.inference import logits_of, outputs_of
from noria.evaluation.judged import read_validation
from noria.export.forms import build_graphs
from noria.export.onnx import check_parity, largest_difference, node_counts
from noria.export.reference import reference_of
from noria.serving.predictor import onnx_run
from noria.training.checkpoint import load_trained


@pytest.fixture(scope="module")
def reference(trained):
    checkpoint = load_trained(trained.checkpoint, scenario=trained.scenario)
    rows = read_validation(trained.splits)
    return reference_of(checkpoint.model, encoder=checkpoint.encoder, scenario=trained.scenario, rows=rows)


@pytest.fixture(scope="module")
def graphs(reference, trained, tmp_path_factory) -> dict[str, Path]:
    return dict(build_graphs(reference, tmp_path_factory.mktemp("graphs"), config=trained.config.optimize))


@pytest.mark.parametrize("name", ["fp32", "fused"])
@pytest.mark.parametrize("batch_rows", [1, 2, 7, 64])
def test_fp32_graphs_compute_what_pytorch_computes_at_every_batch_size(reference, graphs, name, batch_rows):
    found = outputs_of(reference.rows, encoder=reference.encoder, run=onnx_run(graphs[name]), max_rows=batch_rows)
    check_parity(reference.outputs, found, name=name)
    assert largest_difference(reference.outputs, found) < 1e-4


def test_int8_agrees_with_pytorch_on_nearly_every_row(reference, graphs):
    onnx.checker.check_model(str(graphs["int8"]))
    found = outputs_of(reference.rows, encoder=reference.encoder, run=onnx_run(graphs["int8"]))
    assert np.mean(logits_of(found).argmax(1) == logits_of(reference.outputs).argmax(1)) > 0.95
    assert graphs["int8"].stat().st_size < graphs["fused"].stat().st_size


def test_every_size_of_every_input_is_open(graphs):
    for graph in graphs.values():
        for put in onnx.load(str(graph)).graph.input:
            assert put.type.tensor_type.shape.dim[0].dim_param == "batch"
            assert not any(size.HasField("dim_value") for size in put.type.tensor_type.shape.dim)


def test_attention_is_one_node_after_fusion_and_products_are_integers_after_quantization(graphs):
    assert node_counts(graphs["fused"])["MultiHeadAttention"] == 1
    assert sum(node_counts(graphs["fused"]).values()) < sum(node_counts(graphs["fp32"]).values())
    assert node_counts(graphs["int8"])["MatMulInteger"] >= 4  # projections, output, both feed-forward layers


def test_a_graph_names_no_file_of_this_machine(graphs):
    for graph in graphs.values():
        assert b".py" not in graph.read_bytes()


@pytest.mark.parametrize("wrong", [1e-2, np.nan])
def test_a_difference_beyond_rounding_is_an_error(wrong):
    right = [{"logits": np.ones(2, dtype=np.float32)} for _ in range(3)]
    found = [*right[:2], {"logits": right[2]["logits"] + np.float32(wrong)}]
    with pytest.raises(ExportError, match="does not compute what PyTorch computes"):
        check_parity(right, found, name="fp32")


def test_tokens_must_be_the_same():
    right = [{"tokens": np.array([700, 800])}]
    check_parity(right, right, name="fp32")
    with pytest.raises(ExportError, match="in `tokens`"):
        check_parity(right, [{"tokens": np.array([700, 801])}], name="fp32")
