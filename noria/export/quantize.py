"""Fewer bits: half precision, int8 by the range of each batch or of calibration rows, weights alone in 8 or 4 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from noria.errors import ExportError
from noria.export.onnx import node_counts
from noria.export.quiet import theirs
from noria.scenarios.base import Tensors

_NARROWEST_TABLE = 16
_BLOCK = 128  # weights that share a scale
_INT8_PRODUCTS = 4  # of MatMulNBits: activations are rounded to int8 as well, block by block
_PRODUCTS, _TABLES = ("MatMul", "Gemm"), ("Gather",)


def halve(source: Path, target: Path, *, inner: Collection[str] = ()) -> None:
    """Write `source` in half precision; what comes in and goes out stays as it is, but for `inner`.

    For GPUs: on a CPU few operators know it, and ONNX Runtime casts to fp32 and back around the others. Numbers that
    fp16 can't hold become the nearest that it can. Angles stay in fp32 up to their cosines and sines: at place 500
    those of fp16 are off by 0.2.

    Raises
    ------
    ExportError
        When no weight became smaller.
    """
    with theirs("ONNX Runtime can't halve this graph"):
        whole = onnx.load(str(source))
        outer = [put.name for put in (*whole.graph.input, *whole.graph.output) if put.name not in inner]
        model = convert_float_to_float16(whole, keep_io_types=outer, node_block_list=_of_angles(whole.graph))
    if not any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in model.graph.initializer):
        raise ExportError("no weight became smaller", where=str(source), next_step="leave `fp16` out")
    half = ir.from_proto(model)
    _join_casts(half.graph)
    half.graph.sort()  # casts stand behind all else, which ONNX Runtime refuses inside a Loop
    ir.save(half, target)


def quantize(source: Path, target: Path) -> None:
    """Write `source` in int8 where that is valid and worth it: weights per channel, activations per batch (dynamic).

    Matrix products with a constant matrix are quantized, and embedding tables. A product with a
    constant vector is left alone (ONNX Runtime refuses its zero points), and so are narrow tables:
    a linear model's weights, where one scale for all would decide the label.

    Raises
    ------
    ExportError
        When nothing was quantized.
    """
    _dynamic(source, target, op_types=(*_PRODUCTS, *_TABLES))
    _check_has(target, "MatMulInteger")


def quantize_calibrated(source: Path, target: Path, *, batches: Sequence[Tensors]) -> None:
    """The same with the ranges of activations that the batches show, fixed in the graph (QDQ).

    Raises
    ------
    ExportError
        When there is nothing to calibrate by, or nothing was quantized.
    """
    if not batches:
        raise ExportError("int8-static has no rows to calibrate by", where=str(source), next_step="leave it out")
    nodes = _quantizable(source, (*_PRODUCTS, *_TABLES))
    with theirs("ONNX Runtime can't quantize this graph by rows"):
        quantize_static(
            str(source),
            str(target),
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[*_PRODUCTS, *_TABLES],
            nodes_to_quantize=nodes,
            extra_options={
                "DefaultTensorType": onnx.TensorProto.FLOAT,
                "OpTypesToExcludeOutputQuantization": list(_PRODUCTS),  # of logits in 256 steps the best would be a tie
            },
        )
    _check_has(target, "QuantizeLinear")


def quantize_weights(source: Path, target: Path, *, bits: int) -> None:
    """Weights in `bits` in blocks of 128, and embedding tables in int8; activations stay fp32 between the products.

    Raises
    ------
    ExportError
        When nothing was quantized.
    """
    model = onnx.load(str(source))
    wanted = set(_quantizable(source, ("MatMul",)))
    others = [node.name for node in model.graph.node if node.name not in wanted]
    with tempfile.TemporaryDirectory(prefix="noria-weights-") as directory:
        with theirs(f"ONNX Runtime can't quantize the weights of this graph to {bits} bits"):
            quantizer = MatMulNBitsQuantizer(
                model,
                bits=bits,
                block_size=_BLOCK,
                is_symmetric=True,
                accuracy_level=_INT8_PRODUCTS,
                nodes_to_exclude=others,
            )
            quantizer.process()
        products = Path(directory) / "products.onnx"
        onnx.save(quantizer.model.model, str(products))
        _check_has(products, "MatMulNBits")
        if _quantizable(products, _TABLES):
            _dynamic(products, target, op_types=_TABLES)
        else:
            products.replace(target)


def _of_angles(graph: onnx.GraphProto) -> list[str]:
    """The nodes that make cosines and sines, and what these are of."""
    made_by = {output: node for node in graph.node for output in node.output}
    wanted = [node for node in graph.node if node.op_type in ("Cos", "Sin")]
    names: set[str] = set()
    while wanted:
        node = wanted.pop()
        if node.name in names or node.op_type == "Shape":  # of any tensor: what made that is no angle
            continue
        names.add(node.name)
        wanted += [made_by[value] for value in node.input if value in made_by]
    return sorted(names)


def _join_casts(graph: ir.Graph) -> None:
    """Have a node that stays in fp32 read what another one gives as it is, not by way of fp16."""
    for node in graph:
        narrow = node.inputs[0].producer() if node.op_type == "Cast" and node.inputs[0] is not None else None
        if narrow is None or narrow.op_type != "Cast" or node.outputs[0].is_graph_output():
            continue
        wide = narrow.inputs[0]
        if wide is not None and wide.dtype == node.outputs[0].dtype == ir.DataType.FLOAT:
            ir.convenience.replace_all_uses_with(node.outputs[0], wide)
            graph.remove(node, safe=True)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Calibration batches, one after another."""

    def __init__(self, batches: Sequence[Tensors]) -> None:
        self._left: Iterator[Tensors] = iter(batches)

    def get_next(self) -> Tensors | None:
        return next(self._left, None)


def _dynamic(source: Path, target: Path, *, op_types: Sequence[str]) -> None:
    nodes = _quantizable(source, op_types)
    if not nodes:
        raise ExportError("nothing in the graph can be quantized", where=str(source), next_step="leave `int8` out")
    with theirs("ONNX Runtime can't quantize this graph"):
        quantize_dynamic(
            str(source),
            str(target),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(op_types),
            nodes_to_quantize=nodes,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def _quantizable(source: Path, op_types: Sequence[str]) -> list[str]:
    graph = onnx.load(str(source)).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    names = []
    for node in graph.node:
        if node.op_type not in op_types:
            continue
        constant = shapes.get(node.input[0 if node.op_type in _TABLES else 1], ())
        if len(constant) == 2 and (node.op_type in _PRODUCTS or constant[1] >= _NARROWEST_TABLE):
            names.append(node.name)
    return names


def _check_has(path: Path, kind: str) -> None:
    if not node_counts(path)[kind]:
        raise ExportError(
            "no matrix product became smaller", where=str(path), expected=f"{kind} nodes", next_step="leave it out"
        )
