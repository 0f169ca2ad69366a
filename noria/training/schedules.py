"""Learning-rate schedules: pure functions from step to a factor in (0, 1] of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]

_FLOOR = 0.02  # factor of the first step, and the end of the cosine


def build_schedule(name: str, *, num_steps: int, warmup_share: float, decay_share: float) -> Schedule:
    """The schedule called `name` over `num_steps` steps.

    `cosine` and `linear` fall from the first step to the last; `wsd` stays at the peak and falls
    linearly over the last `decay_share` of the steps (warm-up, stable, decay; Hu et al. 2024,
    arXiv:2404.06395); `constant` stays. The warm-up multiplies all of them.
    """
    shapes: dict[str, Callable[[float], float]] = {
        "cosine": lambda done: _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * done)),
        "linear": lambda done: 1 - done,
        "wsd": lambda done: min(1.0, (1 - done) / decay_share) if decay_share else 1.0,
        "constant": lambda done: 1.0,
    }
    shape = shapes[name]

    def factor(step: int) -> float:
        done = step / num_steps
        warm = min(1.0, _FLOOR + done / warmup_share) if warmup_share else 1.0
        return warm * shape(done)

    return factor
