"""A model repository that Triton's own schema takes, and whose graph answers by it as the bundle does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from noria.cli import main
from noria.errors import BundleError, ConfigError
from noria.scenarios import load_scenario
from noria.serving.bundle import open_bundle, version_of
from noria.serving.predictor import Predictor
from noria.serving.store import store_of
from noria.serving.triton import model_configuration, write_triton


def _schema():
    """Of the client's wheel this file alone: the rest of it asks for gRPC and an older protobuf."""
    (package,) = importlib.util.find_spec("tritonclient").submodule_search_locations
    spec = importlib.util.spec_from_file_location("model_config_pb2", Path(package) / "grpc" / "model_config_pb2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


model_config_pb2 = _schema()


def parsed(text: str):
    """By Triton's schema: an unknown field, or a value of the wrong kind, is an error."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def saved(path: Path, shape: list[object], kind: int = TensorProto.FLOAT) -> Path:
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_the_command_writes_a_repository_that_triton_s_schema_takes(workspace, tmp_path, capsys):
    store = store_of(workspace)
    version = version_of(store.publish(workspace.bundle))
    store.promote(version, reason="test", over=None)
    repository = tmp_path / "repository"
    assert main(["export", "--layout", "triton", "--output", str(repository), "-C", str(workspace.root)]) == 0
    assert capsys.readouterr().out.strip() == f"{version}: {repository / 'tiny'}"
    config = parsed((repository / "tiny" / "config.pbtxt").read_text(encoding="utf-8"))
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 4)
    assert config.dynamic_batching.max_queue_delay_microseconds == 2_000
    session = onnxruntime.InferenceSession(str(repository / "tiny" / "1" / config.default_model_filename))
    assert [put.name for put in config.input] == [put.name for put in session.get_inputs()]
    assert [put.name for put in config.output] == [put.name for put in session.get_outputs()]
    encoder = load_scenario("text-classification").load_encoder(repository / "tiny" / "encoder")
    row = {"text": "好棒快"}
    tensors = encoder.collate(encoder.encode_batch([row]))
    for put in config.input:
        assert len(put.dims) == tensors[put.name].ndim - 1
        assert model_config_pb2.DataType.Name(put.data_type).removeprefix("TYPE_").lower() in (
            tensors[put.name].dtype.name,
            f"fp{8 * tensors[put.name].itemsize}",
        )
    (logits,) = session.run(None, {put.name: tensors[put.name] for put in config.input})
    (answer,) = Predictor(open_bundle(workspace.bundle)).outputs([row])
    np.testing.assert_allclose(logits[0], answer["logits"], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(TensorProto.INT64, "TYPE_INT64"), (TensorProto.BOOL, "TYPE_BOOL"), (1, "TYPE_FP32")]
)
def test_open_sizes_and_types_are_written_as_triton_names_them(tmp_path, kind, dtype):
    text = model_configuration(saved(tmp_path / "m.onnx", ["batch", "t", 3], kind), name="m", rows=8, delay_ms=0.5)
    config = parsed(text)
    assert list(config.input[0].dims) == [-1, 3]
    assert model_config_pb2.DataType.Name(config.output[0].data_type) == dtype
    assert config.dynamic_batching.max_queue_delay_microseconds == 500


def test_a_number_a_row_has_a_shape_that_triton_takes(tmp_path):
    config = parsed(model_configuration(saved(tmp_path / "m.onnx", ["batch"]), name="m", rows=8, delay_ms=1))
    assert (list(config.input[0].dims), list(config.input[0].reshape.shape)) == ([1], [])


@pytest.mark.parametrize("shape", [[], [1, 3]])
def test_a_graph_of_one_batch_size_is_refused(tmp_path, shape):
    with pytest.raises(BundleError, match="can't batch `x`"):
        model_configuration(saved(tmp_path / "m.onnx", shape), name="m", rows=8, delay_ms=1)


def test_what_is_there_stays_and_a_failure_leaves_nothing(optimized, tmp_path):
    bundle = open_bundle(optimized.bundle)
    write_triton(bundle, tmp_path, name="m", max_batch_rows=8, max_delay_ms=1)
    for name, match in (("m", "already"), ("a b", "no name"), ("../m", "no name")):
        with pytest.raises(ConfigError, match=match):
            write_triton(bundle, tmp_path, name=name, max_batch_rows=8, max_delay_ms=1)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
