"""Low-rank adaptation: the same function at first, little that learns, and nothing left of it behind the block."""

import math

import pytest
import torch
from training_fixtures import branch, labels, phase_of, run_of, same_weights, some_tokens, step

from noria.config import LoraConfig
from noria.model.lora import low_rank
from noria.model.text_classifier import DeepBranch

TOKENS = torch.randint(3, 50, (4, 16), generator=torch.Generator().manual_seed(0))


def moved(deep: DeepBranch, optimizer: str) -> None:
    """Some steps of training on labels."""
    run = run_of(phase_of(labels(some_tokens(), batch_tokens=64), deep, lr=0.05), optimizer=optimizer)
    for number in range(4):
        step(run, number)


def test_it_starts_as_the_same_function() -> None:
    deep = branch(layers=2)
    before = deep(TOKENS).detach()
    with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=2), seed=1):
        assert torch.equal(deep(TOKENS), before)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_the_updates_and_the_head_learn(optimizer: str) -> None:
    deep = branch(layers=2)
    with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=2), seed=1):
        before = {name: param.detach().clone() for name, param in deep.named_parameters()}
        learning = {name for name, param in deep.named_parameters() if param.requires_grad}
        moved(deep, optimizer)
        changed = {name for name, param in deep.named_parameters() if not torch.equal(param, before[name])}
    assert changed == learning
    assert all(name.startswith("head.") or name.rsplit(".", 1)[1] in ("up", "down") for name in learning)
    assert {"head.query", "head.output.weight", "head.output.bias"} < learning
    assert len([name for name in learning if name.endswith(".up")]) == 2 * 4  # matrices of a block


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_behind_the_block_the_merged_model_is_the_adapted_one(optimizer: str) -> None:
    deep = branch(layers=2)
    names = list(deep.state_dict())
    first = deep(TOKENS).detach()
    with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=2), seed=1):
        moved(deep, optimizer)
        adapted = deep(TOKENS).detach()
    torch.testing.assert_close(deep(TOKENS).detach(), adapted, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(adapted, first, atol=1e-3)
    assert sorted(deep.state_dict()) == sorted(names)
    assert all(param.requires_grad for param in deep.parameters())
    other = branch(seed=3, layers=2)
    other.load_state_dict(deep.state_dict())
    torch.testing.assert_close(other(TOKENS).detach(), adapted, atol=1e-6, rtol=1e-6)


def test_a_change_has_the_rank_that_was_asked_for_and_its_scale() -> None:
    deep = branch()
    before = {name: tensor.clone() for name, tensor in deep.state_dict().items()}
    with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=2, alpha=6.0), seed=1):
        moved(deep, "adamw")
        found = dict(deep.named_parameters())
        (up,) = [param.detach() for name, param in found.items() if "feed_forward.up" in name and name.endswith("0.up")]
        (down,) = [
            param.detach() for name, param in found.items() if "feed_forward.up" in name and name.endswith(".down")
        ]
    change = (
        deep.state_dict()["encoder.blocks.0.feed_forward.up.weight"] - before["encoder.blocks.0.feed_forward.up.weight"]
    )
    torch.testing.assert_close(change, 3.0 * up @ down, atol=1e-6, rtol=1e-5)
    values = torch.linalg.svdvals(change)
    assert values[1] > 1e-5 and values[2] < 1e-5 * math.sqrt(change.numel())


def test_a_parameter_that_was_not_to_learn_does_not_learn_behind_the_block_either() -> None:
    deep = branch()
    deep.frontend.tokens.requires_grad_(False)
    with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=2), seed=1):
        moved(deep, "adamw")
    assert [name for name, param in deep.named_parameters() if not param.requires_grad] == ["frontend.tokens"]


def test_the_updates_begin_the_same_for_a_seed_and_draw_nothing_from_others() -> None:
    found = []
    for seed in (1, 1, 2):
        deep = branch()
        torch.manual_seed(0)
        with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=2), seed=seed):
            found.append({name: tensor.clone() for name, tensor in deep.state_dict().items() if name.endswith("down")})
        assert torch.initial_seed() == 0 and torch.equal(
            torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0))
        )
    assert same_weights(found[0], found[1]) and not same_weights(found[0], found[2])


def test_a_rank_of_zero_trains_everything() -> None:
    deep = branch()
    with low_rank(deep, deep.encoder, head=deep.head, config=LoraConfig(rank=0), seed=1):
        assert all(param.requires_grad for param in deep.parameters())
        assert not any("parametrizations" in name for name, _ in deep.named_parameters())
