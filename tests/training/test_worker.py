"""A training in a process of its own, beside others."""

import pytest

from noria.training.worker import gpu_at


@pytest.mark.parametrize(
    ("num_gpus", "visible", "taken"),
    [(2, "", ["0", "1", "0"]), (3, "4,6,7", ["4", "6", "7"]), (1, "", [None] * 3), (0, "", [None] * 3)],
)
def test_trainings_at_once_take_the_gpus_in_turn(num_gpus, visible, taken):
    assert [gpu_at(place, num_gpus=num_gpus, visible=visible) for place in range(3)] == taken
