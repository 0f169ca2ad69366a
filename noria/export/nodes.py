"""Writing ONNX graphs by hand, and putting exported ones into them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Attribute = int | float | str | TensorProto


class Nodes:
    """The nodes and weights of a graph as it grows; every value has a name that begins with `prefix`.

    A graph in a node of another is `inside` that one, and sees its values.
    """

    def __init__(self, prefix: str, *, inside: Nodes | None = None) -> None:
        self.inside = inside
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._prefix = prefix
        self._constants: dict[bytes, str] = {}

    def add(self, node: NodeProto) -> None:
        """Append a node as it is."""
        self.nodes.append(node)

    def op(self, kind: str, *inputs: str, **attributes: Attribute) -> str:
        """Append an operator; the name of its only output."""
        (output,) = self.ops(kind, *inputs, num_outputs=1, **attributes)
        return output

    def ops(self, kind: str, *inputs: str, num_outputs: int, **attributes: Attribute) -> list[str]:
        """Append an operator; the names of its outputs."""
        name = f"{self._prefix}{kind}_{len(self.nodes)}"
        outputs = [name if number == 0 else f"{name}_{number}" for number in range(num_outputs)]
        node = helper.make_node(kind, list(inputs), outputs, name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return outputs

    def constant(self, value: npt.ArrayLike) -> str:
        """A weight of this value; numbers are int64 where they are not floats."""
        array = np.asarray(value)
        key = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        if key not in self._constants:
            name = f"{self._prefix}constant_{len(self._constants)}"
            self.weights.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]


def read_part(path: Path, name: str) -> onnx.ModelProto:
    """An exported graph whose inner values are called `name/…`; inputs and outputs keep their names."""
    model = onnx.load(str(path))
    graph = model.graph
    outer = {put.name for put in (*graph.input, *graph.output)}

    def renamed(value: str) -> str:
        return value if not value or value in outer else f"{name}/{value}"

    for node in graph.node:
        node.name = f"{name}/{node.name}"
        node.input[:] = [renamed(value) for value in node.input]
        node.output[:] = [renamed(value) for value in node.output]
    for weight in graph.initializer:
        weight.name = renamed(weight.name)
    return model


def add_part(nodes: Nodes, part: onnx.ModelProto, *, name: str, inputs: Mapping[str, str]) -> None:
    """Append the nodes of a part that reads `inputs`, by its name for them; its outputs become `name/…`."""
    graph = part.graph
    names = {put.name: inputs[put.name] for put in graph.input}
    names |= {put.name: f"{name}/{put.name}" for put in graph.output}
    for node in graph.node:
        added = NodeProto()
        added.CopyFrom(node)
        added.input[:] = [names.get(value, value) for value in node.input]
        added.output[:] = [names.get(value, value) for value in node.output]
        nodes.add(added)
    nodes.weights.extend(graph.initializer)


def share_weights(inner: Nodes) -> None:
    """Have what `inner` needs and a graph around it has already, byte for byte, once."""
    held: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    outer = inner.inside
    while outer is not None:
        held |= {_content(weight): weight.name for weight in outer.weights}
        outer = outer.inside
    names = {weight.name: held[key] for weight in inner.weights if (key := _content(weight)) in held}
    inner.weights[:] = [weight for weight in inner.weights if weight.name not in names]
    for node in inner.nodes:
        node.input[:] = [names.get(value, value) for value in node.input]


def _content(weight: TensorProto) -> tuple[int, tuple[int, ...], bytes]:
    array = numpy_helper.to_array(weight)
    return weight.data_type, tuple(weight.dims), hashlib.sha256(array.tobytes()).digest()
