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
from noria.export.quiet import quiet
from noria.scenarios.base import Tensors

_ANY_SIZE = 1 << 31


def export_onnx(
    model: torch.nn.Module,
    example: Tensors,
    path: Path,
    *,
    opset: int,
    fixed: Collection[tuple[str, int]] = (),
) -> None:
    """Write the module's graph in fp32: the encoder's tensors in by name, `logits` (B, C) out.

    Equal models give equal bytes.

    Parameters
    ----------
    model:
        In evaluation mode, on the CPU, in fp32.
    example:
        A collated batch of at least two rows; its sizes stay open in the graph.
    fixed:
        (input, axis) of sizes that all rows share, such as the bands of a spectrum: the graph may fix them.

    Raises
    ------
    ExportError
        When a size was fixed to the example's: such a graph could serve nothing else.
    """
    inputs = {name: torch.from_numpy(array) for name, array in example.items()}
    open_sizes = {name: dict.fromkeys(range(array.ndim), torch.export.Dim.AUTO) for name, array in example.items()}
    with torch.inference_mode(), quiet():
        program = torch.onnx.export(
            model,
            kwargs=inputs,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=open_sizes,
            input_names=list(inputs),
            output_names=[LOGITS],
            verbose=False,
        )
        assert program is not None
        graph_model = program.model
        # Weights that the module reshapes (three projections in one parameter) become constants: they can be quantized.
        optimizer.fold_constants(graph_model, input_size_limit=_ANY_SIZE, output_size_limit=_ANY_SIZE)
        optimizer.remove_unused_nodes(graph_model)
    _name_sizes(graph_model, path, fixed)
    _forget_sources(graph_model)
    ir.save(graph_model, path)


def node_counts(path: Path) -> Mapping[str, int]:
    """How many nodes of each operator a graph has."""
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def largest_difference(expected: Sequence[Tensors], found: Sequence[Tensors]) -> float:
    """Largest absolute difference between what two forms of a model say of the same rows; NaN where either has one."""
    differences = [
        np.abs(one[name].astype(np.float64) - other[name]).max(initial=0.0)
        for one, other in zip(expected, found, strict=True)
        for name in one
    ]
    return float(np.max(differences))


def check_parity(expected: Sequence[Tensors], found: Sequence[Tensors], *, name: str) -> None:
    """Compare an fp32 graph with PyTorch, row by row.

    Raises
    ------
    ExportError
        When they differ by more than rounding, which is 1e-4 of the largest number, or of 1, and none for integers.
    """
    for output in expected[0]:
        arrays = [(one[output], other[output]) for one, other in zip(expected, found, strict=True)]
        exact = np.issubdtype(arrays[0][0].dtype, np.integer)
        largest = max(float(np.abs(one).max(initial=0.0)) for one, _ in arrays)
        allowed = 0.0 if exact else 1e-4 * max(1.0, largest)
        difference = largest_difference([{output: one} for one, _ in arrays], [{output: other} for _, other in arrays])
        if not difference <= allowed:  # not a number is no parity either
            raise ExportError(
                f"{name} does not compute what PyTorch computes",
                where=f"largest difference in `{output}`: {difference:.2e}",
                expected=f"at most {allowed:.0e}",
                next_step="this is a fault of the export: report it with the checkpoint; the live model is untouched",
            )


def _name_sizes(model: ir.Model, path: Path, fixed: Collection[tuple[str, int]]) -> None:
    """Call the open sizes `batch`, `token_ids_1` … instead of by the exporter's counters."""
    names: dict[str, str] = {}
    for put in model.graph.inputs:
        assert put.shape is not None
        for axis, size in enumerate(put.shape):
            if isinstance(size, int) and (put.name, axis) in fixed:
                continue
            if isinstance(size, int):
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
