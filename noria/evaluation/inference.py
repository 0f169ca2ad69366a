"""Rows through a model in batches of like length, whatever runs the model: PyTorch or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from noria.scenarios.base import Encoder, Tensors

Row = Mapping[str, object]
Run = Callable[[Tensors], np.ndarray]
"""A batch's tensors -> logits, float32 (B, C)."""


def logits_of(rows: Sequence[Row], *, encoder: Encoder, run: Run, max_rows: int = 64) -> np.ndarray:
    """Logits, float32 (N, C), in the order of `rows`.

    Rows are sorted by length first, so that a batch holds little padding.
    """
    assert rows, "no rows to run"
    encoded = encoder.encode_batch(rows)
    order = sorted(range(len(rows)), key=lambda i: encoder.num_tokens(encoded[i]))
    batches = [order[start : start + max_rows] for start in range(0, len(order), max_rows)]
    logits = np.concatenate([run(encoder.collate([encoded[i] for i in batch])) for batch in batches])
    in_order = np.empty_like(logits)
    in_order[order] = logits
    return in_order


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 (N, C)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    odds = np.exp(shifted)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
