"""What a graph may bring along: nothing that lies outside of its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from noria.errors import BundleError


def check_self_contained(model: Path) -> None:
    """Nothing, when every tensor of the graph is in its file.

    A tensor may name another file instead of holding its values, anywhere that the process can read: it is
    refused before a runtime opens it.

    Raises
    ------
    BundleError
        When the file is no graph, or a tensor of it lies elsewhere.
    """
    try:
        graph = onnx.load(str(model), load_external_data=False).graph
    except DecodeError as error:
        raise BundleError(f"this is no ONNX graph: {error}", where=str(model), expected="an ONNX file") from error
    for tensor in _tensors(graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
            raise BundleError(
                f"the tensor `{tensor.name}` lies outside of the graph's file: {location}",
                where=str(model),
                expected="a graph that is complete in one file",
                next_step="`noria run` makes such a one; find out who made this",
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Weights and constants, those of the graphs inside of loops and branches too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
