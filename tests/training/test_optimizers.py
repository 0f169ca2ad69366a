"""Muon and who takes which parameter; steps that change nothing where the gradient is no number."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from training_fixtures import branch

from noria.config import LoraConfig
from noria.model.lora import low_rank
from noria.training.optimizers import build_optimizers, orthogonalize, rates, set_rate, skip_where


@given(st.integers(1, 3), st.integers(2, 24), st.integers(2, 24))
@settings(deadline=None, max_examples=20)
def test_muon_orthogonalizes(count: int, rows: int, columns: int) -> None:
    matrices = torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(rows * columns))
    if torch.linalg.svdvals(matrices).min() < 0.1 * torch.linalg.matrix_norm(matrices).max():
        return  # five iterations lift small singular values only part of the way
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.5 and values.max() < 1.3


def test_muon_takes_the_matrices_and_adamw_the_rest() -> None:
    deep = branch()
    muon, adamw = build_optimizers("muon", deep, matrices=deep.encoder, lr=1e-3, muon_lr=0.02, weight_decay=0.0)
    chosen = [p for group in muon.param_groups for p in group["params"]]
    rest = [p for group in adamw.param_groups for p in group["params"]]
    assert {p.shape for p in chosen} == {(3, 16, 16), (16, 16), (32, 16), (16, 32)}
    assert len(chosen) + len(rest) == len(list(deep.parameters()))
    assert any(p is deep.frontend.tokens for p in rest)


def test_low_rank_factors_are_no_matrices_for_muon() -> None:
    deep = branch()
    with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=2), seed=0):
        (adamw,) = build_optimizers("muon", deep, matrices=deep.encoder, lr=1e-3, muon_lr=0.02, weight_decay=0.0)
        assert isinstance(adamw, torch.optim.AdamW)
        taken = {id(param) for group in adamw.param_groups for param in group["params"]}
        assert taken == {id(param) for param in deep.parameters() if param.requires_grad}


def test_a_step_of_muon_is_its_formula() -> None:
    torch.manual_seed(0)
    module = nn.Linear(3, 6)
    weight, momentum = module.weight.detach().clone(), torch.zeros(6, 3)
    (muon, _) = build_optimizers("muon", module, matrices=module, lr=1.0, muon_lr=0.1, weight_decay=0.5)
    for _ in range(3):
        grad = torch.randn(6, 3)
        module.weight.grad = grad.clone()
        muon.step()
        momentum = 0.95 * momentum + 0.05 * grad
        update = orthogonalize((0.05 * grad + 0.95 * momentum)[None])[0]
        weight = weight * (1 - 0.1 * 0.5) - 0.1 * 2**0.5 * update
        torch.testing.assert_close(module.weight.detach(), weight, atol=0.02, rtol=0.02)  # bfloat16 inside


def test_every_group_is_set_to_a_factor_of_its_own_peak() -> None:
    deep = branch()
    optimizers = build_optimizers("muon", deep, matrices=deep.encoder, lr=1e-3, muon_lr=0.02, weight_decay=0.0)
    set_rate(optimizers, 0.5)
    set_rate(optimizers, 0.25)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.005, 0.00025]
    assert rates(optimizers) == {"muon_lr": 0.005, "lr": 0.00025}


def test_without_muon_there_is_one_rate() -> None:
    deep = branch()
    optimizers = build_optimizers("adamw", deep, matrices=deep.encoder, lr=1e-3, muon_lr=0.02, weight_decay=0.0)
    assert rates(optimizers) == {"lr": 1e-3}


def everything(module: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Weights and what the optimizers remember."""
    found = {name: param.detach().clone() for name, param in module.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for place, values in enumerate(optimizer.state.values()):
            found |= {f"{number}.{place}.{key}": value.clone() for key, value in values.items()}
    return found


def unchanged(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> bool:
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_to_be_left_out_on_the_device_changes_nothing(name: str, value: float) -> None:
    """As on a GPU, where the host does not know: `found_inf` is what the optimizers read."""
    torch.manual_seed(0)
    deep = branch()
    optimizers = build_optimizers(name, deep, matrices=deep.encoder, lr=1e-2, muon_lr=0.02, weight_decay=0.1)

    def step(gradient: float | None, *, left_out: bool) -> None:
        for param in deep.parameters():
            param.grad = torch.randn_like(param) if gradient is None else torch.full_like(param, gradient)
        for optimizer in optimizers:
            optimizer.found_inf = torch.tensor(float(left_out))
            optimizer.step()

    step(None, left_out=False)
    before = everything(deep, optimizers)
    step(value, left_out=True)
    assert unchanged(before, everything(deep, optimizers))
    step(None, left_out=False)
    after = everything(deep, optimizers)
    assert not any(torch.equal(before[name], after[name]) for name in dict(deep.named_parameters()))
    assert all(torch.isfinite(tensor).all() for tensor in after.values())


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_on_the_host_the_answer_is_there_at_once(name: str) -> None:
    deep = branch()
    optimizers = build_optimizers(name, deep, matrices=deep.encoder, lr=1e-2, muon_lr=0.02, weight_decay=0.1)
    assert skip_where(optimizers, torch.tensor(False)) and not skip_where(optimizers, torch.tensor(True))
