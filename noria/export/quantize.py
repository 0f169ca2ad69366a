"""int8: weights per channel, activations by the range of each batch (dynamic)."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from noria.errors import ExportError
from noria.export.onnx import node_counts
from noria.export.quiet import quiet

_NARROWEST_TABLE = 16


def quantize(source: Path, target: Path) -> None:
    """Write `source` in int8 where that is valid and worth it.

    Matrix products with a constant matrix are quantized, and embedding tables. A product with a
    constant vector is left alone (ONNX Runtime refuses its zero points), and so are narrow tables:
    a linear model's weights, where one scale for all would decide the label.

    Raises
    ------
    ExportError
        When nothing was quantized.
    """
    nodes = _quantizable(source)
    if not nodes:
        raise ExportError("nothing in the graph can be quantized", where=str(source), next_step="leave `int8` out")
    with quiet():
        quantize_dynamic(
            str(source),
            str(target),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            nodes_to_quantize=nodes,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    if not node_counts(target)["MatMulInteger"]:
        raise ExportError("no matrix product became int8", where=str(source), next_step="leave `int8` out")


def _quantizable(source: Path) -> list[str]:
    graph = onnx.load(str(source)).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    names = []
    for node in graph.node:
        table = shapes.get(node.input[0], ()) if node.op_type == "Gather" else ()
        matrix = shapes.get(node.input[1], ()) if node.op_type in ("MatMul", "Gemm") else ()
        if len(matrix) == 2 or (len(table) == 2 and table[1] >= _NARROWEST_TABLE):
            names.append(node.name)
    return names
