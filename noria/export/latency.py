"""How long a batch takes, candidates interleaved so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from noria.evaluation.inference import Row, Run
from noria.scenarios.base import Encoder

SMALL, LARGE = 1, 32
_LARGE_REPEATS_SHARE = 5  # a large batch costs more and varies less
_WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """Milliseconds per batch of the graph alone: tokenizing is the same for all."""

    p50_ms: float
    p99_ms: float


def measure_latency(
    runs: Mapping[str, Run], *, rows: Sequence[Row], encoder: Encoder, batch_rows: int, repeats: int
) -> dict[str, Latency]:
    """Every candidate on the same batches of real rows, in turn."""
    batches = [
        encoder.collate([encoder.encode(rows[(start + i) % len(rows)]) for i in range(batch_rows)])
        for start in range(0, repeats * batch_rows, batch_rows)
    ]
    for run in runs.values():
        for batch in batches[:_WARM_UP]:
            run(batch)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for batch in batches:
        for name, run in runs.items():
            start_s = time.perf_counter()
            run(batch)
            seconds[name].append(time.perf_counter() - start_s)
    return {
        name: Latency(*(round(float(ms), 3) for ms in 1e3 * np.quantile(taken, [0.5, 0.99])))
        for name, taken in seconds.items()
    }


def small_and_large(
    runs: Mapping[str, Run], *, rows: Sequence[Row], encoder: Encoder, repeats: int
) -> tuple[dict[str, Latency], dict[str, Latency]]:
    """One row at a time, and 32."""
    small = measure_latency(runs, rows=rows, encoder=encoder, batch_rows=SMALL, repeats=repeats)
    large_repeats = max(_WARM_UP, repeats // _LARGE_REPEATS_SHARE)
    large = measure_latency(runs, rows=rows, encoder=encoder, batch_rows=LARGE, repeats=large_repeats)
    return small, large
