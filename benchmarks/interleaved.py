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
    """Mean over the inputs of the median over `repeats` of what each takes: a moment of other work spoils neither."""
    for run in contenders.values():
        for one in inputs[:_WARM_UP]:
            run(one)
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in inputs] for name in contenders}
    for _ in range(repeats):
        for number, one in enumerate(inputs):
            for name, run in contenders.items():
                start_s = time.perf_counter()
                run(one)
                seconds[name][number].append(time.perf_counter() - start_s)
    return {name: statistics.fmean(map(statistics.median, taken)) for name, taken in seconds.items()}
