"""A part of a model in a Loop of its own, applied to one slice of an input after another: windows of documents."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from noria.export.nodes import Nodes, add_part, share_weights
from noria.scenarios.base import Part


def along(judge: Part) -> tuple[str, ...]:
    """The graph's input that a part is applied along, and the names of its sizes."""
    (name,) = judge.inputs
    return f"{name}s", "batch", f"{name}s_1", f"{name}s_2"


def add_judge(graph: Nodes, part: onnx.ModelProto, judge: Part) -> None:
    """Append a Loop that applies a part along the second axis of its input; there must be at least one.

    Rows that are all padding there are left out, but for the first, and have zeros.
    """
    (name,) = judge.inputs
    slices = along(judge)[0]
    body = Nodes("judge/", inside=graph)
    one = body.op("Gather", slices, "judge/number", axis=1)
    row_N1, batch = _real_rows(body, one)
    add_part(body, part, name=judge.name, inputs={name: body.op("GatherND", one, row_N1)})
    each = []
    for output in judge.outputs:
        said = f"{judge.name}/{output}"
        shape = body.op("Concat", batch, body.op("Shape", said, start=1), axis=0)
        each.append(body.op("ScatterND", body.op("ConstantOfShape", shape), row_N1, said))
    going = body.op("Identity", "judge/going")
    share_weights(body)
    graph.weights.extend(body.weights)  # what the other Loop has as well is then found here
    rounds = helper.make_graph(
        body.nodes,
        "judge",
        [
            helper.make_tensor_value_info("judge/number", TensorProto.INT64, []),
            helper.make_tensor_value_info("judge/going", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info(going, TensorProto.BOOL, []),
            *(helper.make_tensor_value_info(value, TensorProto.FLOAT, [None, None]) for value in each),
        ],
    )
    trips = graph.op("Gather", graph.op("Shape", slices), graph.constant(np.array(1)))
    stacked = [f"stacked_{output}" for output in judge.outputs]
    graph.add(helper.make_node("Loop", [trips, graph.constant(np.array(True))], stacked, body=rounds, name="judge"))
    for output, value in zip(judge.outputs, stacked, strict=True):
        graph.add(helper.make_node("Transpose", [value], [output], perm=[1, 0, 2], name=f"turn_{output}"))


def _real_rows(body: Nodes, tokens: str) -> tuple[str, str]:
    """The first row and those with a token, (N, 1); and the number of all, (1)."""
    zero, one = body.constant(np.array(0)), body.constant(np.array(1))
    batch = body.op("Shape", tokens, end=1)
    is_first = body.op("Equal", body.op("Range", zero, body.op("Squeeze", batch), one), zero)
    is_real = body.op("Greater", body.op("ReduceMax", tokens, body.constant([1]), keepdims=0), zero)
    return body.op("Transpose", body.op("NonZero", body.op("Or", is_first, is_real))), batch
