"""A graph brings all of its tensors along, and names no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from noria.errors import BundleError
from noria.serving.graph import check_self_contained


def outside(name: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secrets")
    return tensor


def saved(path: Path, *, weight: TensorProto, constant: TensorProto) -> Path:
    """x + weight, or x + constant: the constant is in a branch."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [
                helper.make_node("Constant", [], [f"{name}_value"], value=value),
                helper.make_node("Add", ["x", f"{name}_value"], [f"{name}_sum"]),
            ],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_sum", TensorProto.FLOAT, [1])],
        )
        for name, value in (("then", constant), ("else", numpy_helper.from_array(np.ones(1, np.float32))))
    }
    nodes = [helper.make_node("If", ["yes"], ["branch"], **branches), helper.make_node("Add", ["branch", "w"], ["y"])]
    inputs = [("x", TensorProto.FLOAT), ("yes", TensorProto.BOOL)]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, [1]) for name, kind in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [weight],
    )
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


INSIDE = numpy_helper.from_array(np.ones(1, np.float32), "w")


def test_a_graph_with_all_of_its_tensors_is_taken(tmp_path: Path) -> None:
    check_self_contained(saved(tmp_path / "model.onnx", weight=INSIDE, constant=INSIDE))


@pytest.mark.parametrize("where", ["weight", "constant"])
def test_a_tensor_that_lies_in_another_file_is_refused_wherever_it_is_used(tmp_path: Path, where: str) -> None:
    tensors = {"weight": INSIDE, "constant": INSIDE, where: outside("w")}
    with pytest.raises(BundleError, match=r"lies outside of the graph's file: \.\./\.\./secrets"):
        check_self_contained(saved(tmp_path / "model.onnx", **tensors))


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(BundleError, match="no ONNX graph"):
        check_self_contained(tmp_path / "model.onnx")
