"""Contenders in turn on the same inputs, so that a busy machine slows all of them alike; one thread each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Input = TypeVar("Input")
_WARM_UP = 2


def seconds_per_input(
    contenders: Mapping[str, Callable[[Input], object]], inputs: Sequence[Input], *, repeats: int
) -> dict[str, float]:
    """Median over `repeats` passes of the mean seconds that each takes for an input."""
    for run in contenders.values():
        for one in inputs[:_WARM_UP]:
            run(one)
    passes: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        taken_s = dict.fromkeys(contenders, 0.0)
        for one in inputs:
            for name, run in contenders.items():
                start_s = time.perf_counter()
                run(one)
                taken_s[name] += time.perf_counter() - start_s
        for name, seconds in taken_s.items():
            passes[name].append(seconds / len(inputs))
    return {name: statistics.median(seconds) for name, seconds in passes.items()}
