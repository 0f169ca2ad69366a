"""A graph in ONNX Runtime, as it is served; imports little, so that a process can be measured that does no more."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from noria.errors import BundleError

_ERRORS_ONLY = 3
_SLOWER = ["SkipLayerNormFusion"]  # six times as long as the two nodes that it puts together (docs/log.md)
_ORT_ERRORS: tuple[type[Exception], ...] = (
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NotImplemented,
    ort.RuntimeException,
)
CANT_RUN: tuple[type[Exception], ...] = (BundleError, *_ORT_ERRORS)
"""What loading or running a bad graph raises."""


def open_session(model: Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """Load a graph for the CPU.

    Raises
    ------
    BundleError
        When ONNX Runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
        )
    except _ORT_ERRORS as error:
        raise BundleError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the graph: {error}",
            where=str(model),
            next_step="serve with the ONNX Runtime that the bundle was made with, or a later one",
        ) from error
