"""What computes a graph: the device that was asked for, or a clear word that there is none."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import onnxruntime
import pytest

from noria.errors import BundleError
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.serving.session import _load_cuda, device_of, open_session

WITHOUT_CUDA = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)


def test_the_cpu_computes_where_it_is_asked_for(optimized):
    assert device_of(open_session(optimized.bundle / "model.onnx", device="cpu")) == "cpu"
    assert Predictor(open_bundle(optimized.bundle), device="cpu").device == "cpu"


@WITHOUT_CUDA
def test_without_cuda_auto_is_the_cpu_and_cuda_is_refused_with_what_to_install(optimized):
    graph = optimized.bundle / "model.onnx"
    assert device_of(open_session(graph, device="auto")) == "cpu"
    with pytest.raises(BundleError, match=r"can't be computed by CUDA.*was built for") as caught:
        open_session(graph, device="cuda")
    assert "onnxruntime-gpu" in str(caught.value)
    with pytest.raises(BundleError, match="CUDA"):
        Predictor(open_bundle(optimized.bundle), device="cuda")


@WITHOUT_CUDA
def test_a_bundle_that_was_chosen_for_cuda_is_served_by_a_cpu_where_there_is_no_other(optimized):
    bundle = open_bundle(optimized.bundle)
    assert bundle.device == "cpu"
    facts = {**bundle.artifact.facts, "device": "cuda"}
    made_there = replace(bundle, artifact=replace(bundle.artifact, facts=facts))
    assert made_there.device == "cuda" and Predictor(made_there).device == "cpu"


def test_models_that_are_loaded_side_by_side_leave_the_output_of_the_process_where_it_was():
    before, interval = sys.stdout, sys.getswitchinterval()
    threads = [threading.Thread(target=lambda: [_load_cuda() for _ in range(500)]) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = sys.stdout
    finally:
        sys.stdout = before
        sys.setswitchinterval(interval)
    assert after is before
