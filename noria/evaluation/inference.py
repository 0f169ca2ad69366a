"""Rows through a model in batches of like length, whatever runs the model: PyTorch or ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from noria.scenarios.base import Encoder, InPieces, Row, Tensors, pieces_of

Run = Callable[[Tensors], Tensors]
"""A batch's tensors -> what the model says, by name, batch first."""
LOGITS = "logits"
"""What a model's only output is called."""

MAX_ROWS = 16
"""Of one batch on a CPU: activations of more rows fall out of a core's cache."""


def outputs_of(
    rows: Sequence[Row], *, encoder: Encoder, run: Run, max_rows: int = MAX_ROWS, workers: int = 1
) -> list[Tensors]:
    """What the model says of each row, in the order of `rows`, without a batch dimension.

    A row that is longer than what the model reads at once is read in pieces, and these are joined.
    A row's arrays are as wide as those of its batch: whoever reads them knows how long its own are.
    Rows are sorted by length first, so that a batch holds little padding. `workers` batches are run
    at once, each on the thread of its own that `run` keeps to: that scales with cores where several
    threads in one small product wait for each other.
    """
    by_row = [pieces_of(encoder, row) for row in encoder.encode_batch(rows)]
    return outputs_of_pieces(by_row, encoder=encoder, run=run, max_rows=max_rows, workers=workers)


def outputs_of_pieces(
    by_row: Sequence[Sequence[Tensors]], *, encoder: Encoder, run: Run, max_rows: int = MAX_ROWS, workers: int = 1
) -> list[Tensors]:
    """`outputs_of` rows that are encoded: the pieces of each."""
    assert by_row, "no rows to run"
    encoded = [piece for pieces in by_row for piece in pieces]
    order = sorted(range(len(encoded)), key=lambda i: encoder.num_tokens(encoded[i]))
    batches = [order[start : start + max_rows] for start in range(0, len(order), max_rows)]

    def run_batch(batch: Sequence[int]) -> list[Tensors]:
        found = run(encoder.collate([encoded[i] for i in batch]))
        return [{name: array[place] for name, array in found.items()} for place in range(len(batch))]

    if min(workers, len(batches)) == 1:
        answered = [run_batch(batch) for batch in batches]
    else:
        with ThreadPoolExecutor(workers) as pool:
            answered = list(pool.map(run_batch, batches))
    in_order: list[Tensors] = [{}] * len(encoded)
    for batch, outputs in zip(batches, answered, strict=True):
        for place, output in zip(batch, outputs, strict=True):
            in_order[place] = output
    if not isinstance(encoder, InPieces):
        return in_order
    found = iter(in_order)
    return [encoder.join([next(found) for _ in pieces]) for pieces in by_row]


def logits_of(outputs: Sequence[Tensors]) -> np.ndarray:
    """Float32 (N, C) of outputs that are logits."""
    return np.stack([output[LOGITS] for output in outputs])


def class_answers(outputs: Sequence[Tensors], *, labels: Sequence[str]) -> list[dict[str, object]]:
    """Of outputs that are logits of classes: the likeliest `label`, and the probability of each, `scores`."""
    return [
        {"label": labels[int(scores.argmax())], "scores": dict(zip(labels, scores.tolist(), strict=True))}
        for scores in softmax(logits_of(outputs))
    ]


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 (N, C)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    odds = np.exp(shifted)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
