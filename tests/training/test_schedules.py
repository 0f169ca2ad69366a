"""Schedules are pure functions from the step to a factor of the peak rate."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.training.schedules import build_schedule


@given(st.integers(1, 500), st.sampled_from(["cosine", "linear", "wsd", "constant"]))
@settings(deadline=None)
def test_schedules_warm_up_and_stay_between_zero_and_one(num_steps: int, name: str) -> None:
    schedule = build_schedule(name, num_steps=num_steps, warmup_share=0.1, decay_share=0.2)
    factors = [schedule(step) for step in range(num_steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[0] <= 0.03
    peak = int(np.argmax(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    if num_steps >= 100:
        assert (factors[-1] < 0.1) == (name != "constant")


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    for name in ("cosine", "linear", "wsd", "constant"):
        assert build_schedule(name, num_steps=10, warmup_share=0.0, decay_share=0.2)(0) == 1.0
