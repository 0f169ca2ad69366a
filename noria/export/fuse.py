"""Fewer, larger operators: attention as one node, by rewriting the graph for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from onnxscript.rewriter.ort_fusions import optimize_for_ort

from noria.errors import ExportError
from noria.export.onnx import node_counts
from noria.export.quiet import quiet

_ATTENTION = ("MultiHeadAttention", "Attention", "GroupQueryAttention")


def fuse(source: Path, target: Path) -> None:
    """Write `source` with its attention blocks fused.

    Raises
    ------
    ExportError
        When nothing was fused: the rewriter knows patterns, and says nothing when none fits.
    """
    with quiet():
        model, _ = optimize_for_ort(ir.load(source))
    ir.save(model, target)
    counts = node_counts(target)
    if not any(counts[name] for name in _ATTENTION):
        raise ExportError(
            "no attention was fused",
            where=f"{sum(node_counts(source).values())} nodes before, {sum(counts.values())} after",
            expected=f"a node of {', '.join(_ATTENTION)}",
            next_step="leave `fused` out of `optimize.candidates`",
        )
