"""A graph in ONNX Runtime, as it is served; imports little, so that a process can be measured that does no more."""

from __future__ import annotations

import io
import logging
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import Literal

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from noria.errors import BundleError

logger = logging.getLogger(__name__)

_ERRORS_ONLY = 3
_SLOWER_ON_CPU = ["SkipLayerNormFusion"]  # six times as long as the two nodes that it puts together (docs/log.md)
_ORT_ERRORS: tuple[type[Exception], ...] = (
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NotImplemented,
    ort.RuntimeException,
)
_loading = threading.Lock()  # of two threads that lead the process's output elsewhere the last puts the first's back
Device = Literal["auto", "cpu", "cuda"]
"""What computes: `auto` is CUDA where this ONNX Runtime has it and it starts, and the CPU otherwise."""
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_FLASH, _EFFICIENT, _UNFUSED = 1, 2, 16
_CUDA_OPTIONS = {
    "use_tf32": "0",  # fp32 is fp32, or its parity could not be told; who wants less has fp16
    "sdpa_kernel": str(_FLASH | _EFFICIENT | _UNFUSED),  # cuDNN's attention is planned anew, 0.1 s, for each length
}
CANT_RUN: tuple[type[Exception], ...] = (BundleError, *_ORT_ERRORS)
"""What loading or running a bad graph raises."""


def open_session(model: Path, *, threads: int = 1, device: Device = "cpu") -> onnxruntime.InferenceSession:
    """Load a graph.

    What CUDA has no operator for is computed on the CPU, between two copies.

    Raises
    ------
    BundleError
        When ONNX Runtime refuses the graph, or `cuda` is asked for and not there.
    """
    found = onnxruntime.get_available_providers()
    if device == "cuda" and _CUDA not in found:
        raise _no_cuda(model, f"ONNX Runtime {onnxruntime.__version__} was built for {', '.join(found)}")
    on_cuda = device != "cpu" and _CUDA in found
    if on_cuda:
        _load_cuda()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)  # what no session says: CUDA's kernels warn at every graph
    try:
        session = onnxruntime.InferenceSession(
            str(model),
            options,
            providers=[(_CUDA, _CUDA_OPTIONS), _CPU] if on_cuda else [_CPU],
            disabled_optimizers=[] if on_cuda else _SLOWER_ON_CPU,
        )
    except _ORT_ERRORS as error:
        raise BundleError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the graph: {error}",
            where=str(model),
            next_step="serve with the ONNX Runtime that the bundle was made with, or a later one",
        ) from error
    if device == "cuda" and device_of(session) != "cuda":  # ONNX Runtime has said why, and gone on without
        raise _no_cuda(model, "ONNX Runtime could not start it")
    return session


def device_of(session: onnxruntime.InferenceSession) -> Device:
    """What computes a graph that was loaded: "cuda" or "cpu"."""
    return "cuda" if _CUDA in session.get_providers() else "cpu"


def _load_cuda() -> None:
    """Load CUDA's libraries that came as packages: the linker does not look there. What is missing is told later."""
    with _loading, redirect_stdout(io.StringIO()) as said:
        onnxruntime.preload_dlls()
    if said.getvalue():
        logger.debug("%s", said.getvalue().strip())


def _no_cuda(model: Path, why: str) -> BundleError:
    return BundleError(
        f"the graph can't be computed by CUDA: {why}",
        where=str(model),
        expected="`onnxruntime-gpu` in place of `onnxruntime`, and a GPU whose driver and libraries fit it",
        next_step="set the device to `auto` or `cpu`",
    )
