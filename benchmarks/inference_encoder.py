"""A classifier's encoder in int8 against what runs it without Noria's optimize node; one thread.

    python -m benchmarks.inference_encoder

Random weights: the time of a product does not depend on its numbers. What int8 costs in quality is a row of
benchmarks/inference_generation.py, on a trained model. No row has padding, which favours nobody.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before PyTorch and ONNX Runtime are there

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.interleaved import seconds_per_input
from benchmarks.results import Row, write_results
from noria.config import ModelConfig
from noria.export.onnx import export_part, whole_model
from noria.export.quantize import quantize
from noria.export.runtime import for_runtime
from noria.model.text_classifier import DeepBranch, TextClassifier
from noria.serving.predictor import onnx_run

SHAPE = ModelConfig(layers=4, dim=256, heads=4, feed_forward_dim=1024, positions="learned", bigram_buckets=0)
BATCHES = {"1 × 128": (1, 128), "16 × 64": (16, 64)}
_VOCABULARY, _MOST_TOKENS, _CLASSES = 8_000, 128, 4
_OPSET = 20
_INPUTS, _REPEATS = 10, 9
_OURS = "int8"
_AGAINST_EAGER, _AHEAD = 2.0, 1.0
Contender = Callable[[np.ndarray], object]


def classifier() -> TextClassifier:
    torch.manual_seed(0)
    deep = DeepBranch(SHAPE, vocabulary_size=_VOCABULARY, max_tokens=_MOST_TOKENS, num_classes=_CLASSES)
    return TextClassifier(wide=None, deep=deep).eval()


def contenders(directory: Path) -> dict[str, Contender]:
    """Ours and the peers, each from token ids (B, T) to logits (B, C)."""
    model = classifier()
    half = copy.deepcopy(model)
    assert half.deep is not None
    half.deep.compute_dtype = torch.bfloat16
    part = whole_model(model, {"token_ids": tokens((3, 17), seed=0)}, shared={})
    plain, fused, int8 = (directory / f"{name}.onnx" for name in ("plain", "fused", "int8"))
    export_part(part, plain, opset=_OPSET)
    export_part(replace(part, module=for_runtime(part.module)), fused, opset=_OPSET)
    quantize(fused, int8)
    return {
        _OURS: _in_onnx_runtime(int8),
        "PyTorch eager, fp32": _in_pytorch(model),
        "torch.compile, fp32": _in_pytorch(torch.compile(model, dynamic=False)),  # compiled anew for each shape
        "PyTorch eager, bf16": _in_pytorch(half),
        "plain ONNX export, fp32": _in_onnx_runtime(plain),
    }


def tokens(shape: tuple[int, int], *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, _VOCABULARY, shape)


def _in_onnx_runtime(path: Path) -> Contender:
    run = onnx_run(path)
    return lambda token_ids: run({"token_ids": token_ids})


def _in_pytorch(model: Callable[[torch.Tensor], torch.Tensor]) -> Contender:
    def run(token_ids: np.ndarray) -> object:
        with torch.inference_mode():
            return model(torch.from_numpy(token_ids))

    return run


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        runs = contenders(Path(directory))
        for name, shape in BATCHES.items():
            inputs = [tokens(shape, seed=seed) for seed in range(_INPUTS)]
            rates = {peer: 1 / s for peer, s in seconds_per_input(runs, inputs, repeats=_REPEATS).items()}
            for peer in (peer for peer in runs if peer != _OURS):
                bar = _AGAINST_EAGER if "eager, fp32" in peer else _AHEAD
                claim = f"classifier ({SHAPE.layers} layers of {SHAPE.dim}), int8, rows × tokens {name}, one thread"
                row = Row(
                    claim, "batches/s", round(rates[_OURS], 1), peer, round(rates[peer], 1), bar, repeats=_REPEATS
                )
                print(f"{row.claim}: {row.ratio} times {peer}")
                rows.append(row)
    print(write_results("inference_encoder", rows, packages=("torch", "onnxruntime")))


if __name__ == "__main__":
    main()
