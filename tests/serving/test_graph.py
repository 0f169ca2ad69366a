"""A graph that names a file outside of its bundle is refused by the runtime, before anything of it is read.

That is ONNX Runtime's own doing, from the version on that the `serve` extra asks for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from noria.errors import BundleError
from noria.serving.predictor import onnx_run


def saved(path: Path, location: str, *, is_constant: bool) -> Path:
    """x + w, of which w lies elsewhere: a weight, or a constant."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    constants = [helper.make_node("Constant", [], ["w"], value=weight)] if is_constant else []
    graph = helper.make_graph(
        [*constants, helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [] if is_constant else [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize("location", ["../secret", "absolute", "link"])
def test_a_tensor_outside_of_the_bundle_is_never_read(tmp_path: Path, location: str, is_constant: bool) -> None:
    bundle, secret = tmp_path / "bundle", tmp_path / "secret"
    bundle.mkdir()
    np.ones(4, np.float32).tofile(secret)
    (bundle / "link").symlink_to(secret)
    where = str(secret) if location == "absolute" else location
    with pytest.raises(BundleError, match="External data path"):
        onnx_run(saved(bundle / "model.onnx", where, is_constant=is_constant))


def test_a_tensor_in_the_bundle_is_read(tmp_path: Path) -> None:
    np.ones(4, np.float32).tofile(tmp_path / "weights")
    run = onnx_run(saved(tmp_path / "model.onnx", "weights", is_constant=False))
    assert run({"x": np.zeros(4, np.float32)})["y"].tolist() == [1, 1, 1, 1]
