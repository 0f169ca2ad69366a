"""How long a batch takes; whoever is compared runs in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

_WARM_UP = 3
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Latency:
    """Milliseconds per batch."""

    p50_ms: float
    p99_ms: float


def measure_latency(runs: Mapping[str, Callable[[Batch], object]], *, batches: Sequence[Batch]) -> dict[str, Latency]:
    """Everyone on the same batches, in turn, after three batches to warm up."""
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
