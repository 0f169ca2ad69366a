"""Rows through a model in batches of like length, whatever runs the model: PyTorch or ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from noria.scenarios.base import Encoder, Tensors

Row = Mapping[str, object]
Run = Callable[[Tensors], np.ndarray]
"""A batch's tensors -> logits, float32 (B, C)."""

_MAX_ROWS = 16  # activations of more rows fall out of a core's cache


def logits_of(
    rows: Sequence[Row], *, encoder: Encoder, run: Run, max_rows: int = _MAX_ROWS, workers: int = 1
) -> np.ndarray:
    """Logits, float32 (N, C), in the order of `rows`.

    Rows are sorted by length first, so that a batch holds little padding. `workers` batches are run
    at once, each on the thread of its own that `run` keeps to: that scales with cores where several
    threads in one small product wait for each other.
    """
    assert rows, "no rows to run"
    encoded = encoder.encode_batch(rows)
    order = sorted(range(len(rows)), key=lambda i: encoder.num_tokens(encoded[i]))
    batches = [order[start : start + max_rows] for start in range(0, len(order), max_rows)]

    def run_batch(batch: Sequence[int]) -> np.ndarray:
        return run(encoder.collate([encoded[i] for i in batch]))

    if min(workers, len(batches)) == 1:
        logits = np.concatenate([run_batch(batch) for batch in batches])
    else:
        with ThreadPoolExecutor(workers) as pool:
            logits = np.concatenate(list(pool.map(run_batch, batches)))
    in_order = np.empty_like(logits)
    in_order[order] = logits
    return in_order


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 (N, C)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    odds = np.exp(shifted)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
