"""What the champion makes of rows before it answers: one vector a row, from the bundle alone, without torch.

Where a graph ends in a matrix product, its input is the model's representation of a row; where it ends in a loop that
writes token by token, there is none outside, and rows are counted by their tokens instead (hashed, Weinberger et al.
2009, arXiv:0902.2206).
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from noria.evaluation.inference import Run
from noria.scenarios.base import Row, Tensors, pieces_of
from noria.serving.bundle import Bundle
from noria.serving.predictor import onnx_run

Vectors = npt.NDArray[np.float32]

_PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul", "QGemm"}
_QUANTIZERS = {"DynamicQuantizeLinear", "QuantizeLinear", "Cast"}
_BUCKETS = 64
_MOST_STEPS = 12
"""Nodes between the last matrix product and the answer: more, and it is no representation of what is answered."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


def represent(rows: Sequence[Row], bundle: Bundle) -> Vectors:
    """Float32 (N, D): the mean over a row's pieces and positions of what the graph's last product takes."""
    by_row = [pieces_of(bundle.encoder, row) for row in bundle.encoder.encode_batch(rows)]
    model = onnx.load(str(bundle.model))
    inner = last_input(model.graph)
    if inner is None:
        return np.stack([_token_shares(pieces) for pieces in by_row])
    model.graph.output.append(onnx.ValueInfoProto(name=inner))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        onnx.save(model, str(path))
        run = onnx_run(path)
    return np.stack([_mean([_hidden(piece, bundle, run, inner) for piece in pieces]) for pieces in by_row])


def last_input(graph: onnx.GraphProto) -> str | None:
    """The value that the matrix product nearest to the first output takes, beside its weights; None without one.

    Of an int8 product it is what was quantized for it.
    """
    makers = {name: node for node in graph.node for name in node.output}
    waiting = deque([(graph.output[0].name, 0)])
    while waiting:
        name, steps = waiting.popleft()
        node = makers.get(name)
        if node is None or steps > _MOST_STEPS:
            continue
        if node.op_type in _PRODUCTS:
            return _before_quantizing(node.input[0], makers)
        waiting.extend((put, steps + 1) for put in node.input if put)
    return None


def _before_quantizing(name: str, makers: dict[str, onnx.NodeProto]) -> str | None:
    while (node := makers.get(name)) is not None and node.op_type in _QUANTIZERS:
        name = node.input[0]
    return name if name in makers else None


def _hidden(piece: Tensors, bundle: Bundle, run: Run, inner: str) -> Vectors:
    """(D,) of one piece, computed alone: in a batch, positions that are padding would count."""
    found = run(bundle.encoder.collate([piece]))[inner]
    return np.asarray(found.reshape(-1, found.shape[-1]).mean(axis=0), np.float32)


def _mean(vectors: Sequence[Vectors]) -> Vectors:
    return np.asarray(np.mean(np.stack(vectors), axis=0), np.float32)


def _token_shares(pieces: Sequence[Tensors]) -> Vectors:
    """(64,): the share of each bucket among the tokens of a row, all its arrays of whole numbers together."""
    arrays = [array.ravel() for piece in pieces for array in piece.values() if np.issubdtype(array.dtype, np.integer)]
    tokens = np.concatenate(arrays).astype(np.uint64) if arrays else np.zeros(0, np.uint64)
    buckets = ((tokens + np.uint64(1)) * _MIX) >> np.uint64(58)
    shares = np.bincount(buckets.astype(np.int64), minlength=_BUCKETS) / max(len(tokens), 1)
    return np.asarray(shares, np.float32)
