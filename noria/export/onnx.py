"""PyTorch -> ONNX, with batch and lengths left open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxscript import optimizer

from noria.errors import ExportError
from noria.evaluation.inference import LOGITS
from noria.export.quiet import theirs
from noria.scenarios.base import Part, Tensors

_ANY_SIZE = 1 << 31


def whole_model(model: torch.nn.Module, example: Tensors, *, shared: Mapping[str, tuple[int, ...]]) -> Part:
    """A model that is one graph as it stands, with `logits` for its output; see `Part` for the parameters."""
    return Part("model", _Named(model, tuple(example)), example, (LOGITS,), shared=shared)


def export_part(part: Part, path: Path, *, opset: int) -> None:
    """Write the graph of a part in fp32: its inputs and outputs by name, sizes open that are not fixed.

    The module is in evaluation mode, on the CPU, in fp32, and its example has at least two rows. Equal
    models give equal bytes.

    Raises
    ------
    ExportError
        When a size was fixed to the example's that should be open: such a graph could serve nothing else.
    """
    inputs = {name: torch.from_numpy(array) for name, array in part.inputs.items()}
    open_axes = {name: set(range(x.ndim)) - set(part.fixed.get(name, ())) for name, x in inputs.items()}
    with torch.inference_mode(), theirs("PyTorch can't export this module"):
        program = torch.onnx.export(
            _Positional(part.module),
            args=tuple(inputs.values()),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=(tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in open_axes.values()),),
            input_names=list(inputs),
            output_names=list(part.outputs),
            verbose=False,
        )
        assert program is not None
        graph_model = program.model
        # Weights that the module reshapes (three projections in one parameter) become constants: they can be quantized.
        optimizer.fold_constants(graph_model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
        optimizer.remove_unused_nodes(graph_model)
    needed = {name: axes - set(part.shared.get(name, ())) for name, axes in open_axes.items()}
    _name_sizes(graph_model, path, needed)
    _forget_sources(graph_model)
    ir.save(graph_model, path)


def node_counts(path: Path) -> Mapping[str, int]:
    """How many nodes of each operator a graph has."""
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def largest_difference(expected: Sequence[Tensors], found: Sequence[Tensors]) -> float:
    """Largest absolute difference between what two forms of a model say of the same rows; NaN where either has one.

    Integers differ by 1 or not at all: of two numbers of tokens none is nearer.
    """
    differences = [
        _difference(one[name], other[name]) for one, other in zip(expected, found, strict=True) for name in one
    ]
    return float(np.max(differences))


def check_parity(expected: Sequence[Tensors], found: Sequence[Tensors], *, name: str) -> None:
    """Compare an fp32 graph with PyTorch, row by row.

    Raises
    ------
    ExportError
        When they differ by more than rounding: numbers by more than 1e-4 of the largest, or of 1; integers, which
        are choices, at all.
    """
    for output in expected[0]:
        arrays = [(one[output], other[output]) for one, other in zip(expected, found, strict=True)]
        differences = [_difference(one, other) for one, other in arrays]
        if np.issubdtype(arrays[0][0].dtype, np.integer):
            difference, allowed, what = float(np.mean(differences)), 0.0, "share of rows that differ"
        else:
            largest = max(float(np.abs(one).max(initial=0.0)) for one, _ in arrays)
            difference, allowed, what = float(np.max(differences)), 1e-4 * max(1.0, largest), "largest difference"
        if not difference <= allowed:  # not a number is no parity either
            raise ExportError(
                f"{name} does not compute what PyTorch computes",
                where=f"{what} in `{output}`: {difference:.2e}",
                expected=f"at most {allowed:.0e}",
                next_step="this is a fault of the export: report it with the checkpoint; the live model is untouched",
            )


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Of two arrays of a row, each as wide as its batch: what one has more than the other is compared with zeros."""
    if one.shape != other.shape:
        widths = [max(sizes) for sizes in zip(one.shape, other.shape, strict=True)]
        one, other = (np.pad(x, [(0, w - n) for w, n in zip(widths, x.shape, strict=True)]) for x in (one, other))
    if np.issubdtype(one.dtype, np.integer):
        return float(not np.array_equal(one, other))
    return float(np.abs(one.astype(np.float64) - other).max(initial=0.0))


class _Named(torch.nn.Module):
    """A module whose inputs are given in order."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.module(**dict(zip(self.names, inputs, strict=True)))


class _Positional(torch.nn.Module):
    """A module of any signature, as the exporter wants to hear of sizes: input by input."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.module(*inputs)


def _name_sizes(model: ir.Model, path: Path, needed: Mapping[str, Collection[int]]) -> None:
    """Call the open sizes `batch`, `token_ids_1` … and not by the exporter's counters; those needed must be open."""
    names: dict[str, str] = {}
    for put in model.graph.inputs:
        assert put.shape is not None
        for axis, size in enumerate(put.shape):
            if isinstance(size, int):
                if axis not in needed[str(put.name)]:
                    continue
                raise ExportError(
                    f"the exported graph fixes dimension {axis} of `{put.name}` to {size}",
                    where=str(path),
                    expected="every size of every input left open",
                    next_step="the model's forward must not turn a size into a Python number",
                )
            names.setdefault(str(size.value), "batch" if axis == 0 else f"{put.name}_{axis}")
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape(
                [size if isinstance(size, int) else names.get(str(size.value)) for size in value.shape]
            )


def _forget_sources(model: ir.Model) -> None:
    """Drop stack traces and module names: they name this machine's files and change with comments."""
    for part in (model, model.graph, *model.graph, *model.functions.values()):
        part.metadata_props.clear()
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()
