"""A step is the same however it is cut, and one whose loss is no number changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_fixtures import (
    Listener,
    branch,
    labels,
    masked_tokens,
    phase_of,
    ragged,
    run_of,
    same_weights,
    small_job,
    some_tokens,
    step,
)

from noria.model.text_classifier import DeepBranch
from noria.training.batch import Batch
from noria.training.loop import my_units, take_step
from noria.training.recipe import Objective
from noria.training.run import run_job
from noria.training.state import optimizer_states


def stepped(objective: Objective, *, parts: int = 1, accumulate: int = 1, optimizer: str = "sgd") -> DeepBranch:
    deep = branch()
    step(run_of(phase_of(objective, deep), parts=parts, accumulate=accumulate, optimizer=optimizer), 0)
    return deep


def assert_same(one: nn.Module, other: nn.Module, *, tolerance: float) -> None:
    for name, expected in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], expected, atol=tolerance, rtol=1e-5)


def test_accumulated_micro_batches_step_like_the_large_batch() -> None:
    token_ids = ragged([np.arange(3, 11)] * 3 + [np.arange(20, 28)] * 7)
    large, small = labels(token_ids, batch_tokens=80), labels(token_ids, batch_tokens=32)
    assert len(large) == 1 and len(small) == 3  # of 4, 4 and 2 rows
    assert_same(stepped(large), stepped(small, accumulate=3), tolerance=1e-6)


@pytest.mark.parametrize("make", [labels, masked_tokens])
@pytest.mark.parametrize("parts", [2, 3, 30])
def test_a_step_in_parts_is_the_same_step_though_some_are_empty(make: Callable[..., Objective], parts: int) -> None:
    objective = make(some_tokens(), batch_tokens=64)
    whole = objective.batch(0)
    assert (len(whole.rows) < parts) == (parts == 30)
    assert_same(stepped(objective), stepped(objective, parts=parts), tolerance=1e-6)


def test_a_point_says_the_rate_of_adamw_and_that_of_muon(tmp_path: Path) -> None:
    deep, told = branch(), Listener()
    phase = phase_of(labels(some_tokens(), batch_tokens=64), deep, lr=1e-3, muon_lr=0.02)
    run_job(small_job(tmp_path, deep, [phase], told=told, optimizer="muon"))
    values = next(point.values for point in told.points if "train_loss" in point.values)
    assert (values["lr"], values["muon_lr"]) == (1e-3, 0.02)


def test_a_step_in_parts_accumulates_too() -> None:
    objective = masked_tokens(some_tokens(), batch_tokens=64)
    assert_same(stepped(objective, accumulate=3), stepped(objective, accumulate=3, parts=2), tolerance=1e-6)


def test_the_gradient_is_that_of_the_mean_over_all_targets_of_a_step() -> None:
    objective = masked_tokens(some_tokens(), batch_tokens=64)
    batches = [objective.batch(index) for index in range(3)]
    assert len({batch.num_targets for batch in batches}) > 1
    deep = branch()
    losses = [objective.loss(deep, batch) for batch in batches]
    mean = torch.stack(losses).sum() / sum(batch.num_targets for batch in batches)
    mean.backward()
    expected = deep.frontend.tokens.detach() - 0.1 * deep.frontend.tokens.grad
    torch.testing.assert_close(stepped(objective, accumulate=3).frontend.tokens.detach(), expected)


def test_a_step_says_the_summed_loss_the_norm_and_the_targets() -> None:
    objective = labels(some_tokens(), batch_tokens=64)
    deep = branch()
    expected = objective.loss(deep, objective.batch(2)).detach()
    run = run_of(phase_of(objective, deep), parts=2)
    loss, norm, num_targets = take_step(run, 2, list(my_units(run, 2)), rate=1.0)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert float(norm) > 0 and int(num_targets) == len(objective.batch(2).rows)


@pytest.mark.parametrize("seed", [0, 10**12, 2**63])
def test_a_seed_may_be_of_any_size(seed: int) -> None:
    run = run_of(phase_of(labels(some_tokens(), batch_tokens=64), branch()))
    step(replace(run, seed=seed), 1)


def test_the_gradient_is_clipped_to_the_largest_norm() -> None:
    objective = labels(some_tokens(), batch_tokens=64)
    deep = branch()
    before = {name: param.detach().clone() for name, param in deep.named_parameters()}
    step(run_of(phase_of(objective, deep, lr=1.0), max_grad_norm=0.01), 0)
    moved = torch.stack([(param.detach() - before[name]).norm() for name, param in deep.named_parameters()]).norm()
    assert float(moved) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_with_no_number_in_it_changes_nothing(optimizer: str, what: str) -> None:
    class Broken:
        """Labels, whose batch 1 gives no number: in its loss, or in its gradient alone."""

        def __init__(self) -> None:
            self.inner = labels(some_tokens(), batch_tokens=64)
            self.bad = self.inner.batch(1).rows.tolist()

        def __len__(self) -> int:
            return len(self.inner)

        def batch(self, index: int) -> Batch:
            return self.inner.batch(index)

        def largest(self) -> Batch:
            return self.inner.largest()

        def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
            loss = self.inner.loss(model, batch)
            if batch.rows.tolist() != self.bad:
                return loss
            return loss * float("nan") if what == "loss" else loss + torch.sqrt(0 * loss)

    deep = branch()
    run = run_of(phase_of(Broken(), deep, lr=1e-2), optimizer=optimizer)
    step(run, 0)
    weights = {name: tensor.clone() for name, tensor in deep.state_dict().items()}
    states = {
        f"{name}:{key}": value.clone()
        for name, values in optimizer_states(deep, run.optimizers).items()
        for key, value in values.items()
    }
    step(run, 1)
    assert same_weights(weights, deep.state_dict())
    after = optimizer_states(deep, run.optimizers)
    assert same_weights(states, {f"{n}:{key}": value for n, values in after.items() for key, value in values.items()})
    assert all(param.grad is None for param in deep.parameters())
    step(run, 2)
    assert not same_weights(weights, deep.state_dict())
    assert all(torch.isfinite(tensor).all() for tensor in deep.state_dict().values())


def test_recomputed_activations_give_the_same_gradients() -> None:
    tokens = torch.randint(3, 50, (4, 16))
    grads = []
    for recompute in (False, True):
        deep = branch(layers=2)
        for block in deep.encoder.blocks:
            block.recompute = recompute
        deep(tokens).square().sum().backward()
        grads.append({name: param.grad for name, param in deep.named_parameters() if param.grad is not None})
    assert len(grads[0]) > 10 and same_weights(grads[0], grads[1])
