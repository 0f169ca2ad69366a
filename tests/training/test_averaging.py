"""Averaged weights against the formulas written out."""

import pytest
import torch
from torch import nn

from noria.config import AverageConfig
from noria.training.averaging import Average


def walked(config: AverageConfig, num_steps: int) -> tuple[list[torch.Tensor], Average, nn.Linear]:
    """A module whose weights change at random, and the average that follows it."""
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    average = Average(config, module, num_steps=num_steps)
    seen = []
    for step in range(num_steps):
        with torch.no_grad():
            module.weight.add_(torch.randn_like(module.weight))
        average.update(step)
        seen.append(module.weight.detach().clone())
    return seen, average, module


def test_tail_is_the_mean_over_the_last_share_of_the_steps() -> None:
    seen, average, _ = walked(AverageConfig(kind="tail", tail_share=0.25), 20)
    torch.testing.assert_close(average.tensors["weight"], torch.stack(seen[15:]).mean(0))


def test_ema_decays_the_past_and_starts_unbiased() -> None:
    seen, average, _ = walked(AverageConfig(kind="ema", decay=0.8), 60)
    expected = seen[0]
    for t, weight in enumerate(seen[1:], 2):
        decay = min(0.8, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(average.tensors["weight"], expected)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("left_out", [{0}, {3}, {0, 1, 4, 5}, {7}], ids=str)
@pytest.mark.parametrize("kind", ["ema", "tail"])
def test_steps_that_were_left_out_are_neither_taken_in_nor_counted(
    kind: str, left_out: set[int], on_device: bool
) -> None:
    """Nor when the average is saved and goes on between them."""
    config = AverageConfig(kind=kind, decay=0.8, tail_share=1.0)
    _, _, module = walked(config, 0)
    plain, found = (Average(config, module, num_steps=8) for _ in range(2))
    num_taken = 0
    for step in range(8):
        taken = step not in left_out
        if taken:
            with torch.no_grad():
                module.weight.add_(torch.randn_like(module.weight))
            plain.update(num_taken)
            num_taken += 1
        if taken or on_device:
            found.update(step, taken=torch.tensor(taken) if on_device else None)
        saved = {name: tensor.clone() for name, tensor in found.saved.items()}
        found = Average(config, module, num_steps=8)
        found.load(saved)
    assert torch.equal(found.tensors["weight"], plain.tensors["weight"])


@pytest.mark.parametrize("kind", ["none", "tail"])
def test_before_it_begins_there_is_nothing_to_apply(kind: str) -> None:
    module = nn.Linear(3, 2)
    average = Average(AverageConfig(kind=kind, tail_share=0.25), module, num_steps=20)
    average.update(3)
    weight = module.weight.detach().clone()
    with average.applied():
        assert torch.equal(module.weight, weight)
    average.keep()
    assert torch.equal(module.weight, weight) and not average.tensors


def test_the_module_holds_the_average_inside_the_block_and_its_own_weights_behind_it() -> None:
    seen, average, module = walked(AverageConfig(kind="tail", tail_share=0.5), 8)
    mean = torch.stack(seen[4:]).mean(0)
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), mean)
    assert torch.equal(module.weight, seen[-1])
    average.keep()
    torch.testing.assert_close(module.weight.detach(), mean)


def test_an_average_that_is_saved_goes_on() -> None:
    config = AverageConfig(kind="ema", decay=0.9)
    _, whole, _ = walked(config, 10)
    _, half, module = walked(config, 6)
    resumed = Average(config, module, num_steps=10)
    resumed.load({name: tensor.clone() for name, tensor in half.saved.items()})
    for step in range(6, 10):
        with torch.no_grad():
            module.weight.add_(torch.randn_like(module.weight))
        resumed.update(step)
    assert torch.equal(resumed.tensors["weight"], whole.tensors["weight"])
