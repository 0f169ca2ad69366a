"""Masked-token pretraining hides tokens, and asks for those and no others."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_fixtures import branch, masked_tokens, ragged, some_tokens

from noria.data.text_encoder import MASK, PAD
from noria.recipes.masked_tokens import MaskedTokens


@given(st.integers(0, 30))
@settings(deadline=None, max_examples=20)
def test_batches_are_pure_functions_of_seed_and_index(index: int) -> None:
    first, second = (masked_tokens(some_tokens(), batch_tokens=64) for _ in range(2))
    second.batch(7)
    a, b = first.batch(index), second.batch(index)
    assert torch.equal(a.inputs["token_ids"], b.inputs["token_ids"]) and torch.equal(a.targets, b.targets)
    assert a.positions is not None and b.positions is not None and torch.equal(a.positions, b.positions)


def test_it_asks_for_what_it_hid() -> None:
    token_ids = some_tokens(200)
    objective = MaskedTokens(token_ids, mask_share=0.2, batch_tokens=2_000, vocabulary_size=50, seed=1)
    shown = originals = masked = 0
    for index in range(len(objective)):
        batch = objective.batch(index)
        original = torch.zeros_like(batch.inputs["token_ids"])
        for place, row in enumerate(batch.rows):
            original[place, : len(token_ids[row])] = torch.from_numpy(token_ids[row])
        assert torch.equal(original.flatten()[batch.positions], batch.targets)
        untouched = torch.ones(original.numel(), dtype=torch.bool)
        untouched[batch.positions] = False
        assert torch.equal(batch.inputs["token_ids"].flatten()[untouched], original.flatten()[untouched])
        masked += int((batch.inputs["token_ids"] == MASK).sum())
        shown += batch.num_targets
        originals += int((original != PAD).sum())
    assert 0.1 < shown / originals <= 0.2
    assert 0.8 < masked / shown < 1.0


def test_at_least_one_token_is_hidden() -> None:
    objective = masked_tokens(ragged([some_tokens(1)[0][:1]]), batch_tokens=64)
    assert objective.batch(0).num_targets == 1


def test_the_loss_is_the_cross_entropy_at_the_hidden_places() -> None:
    deep, objective = branch(), masked_tokens(some_tokens(), batch_tokens=128)
    batch = objective.batch(0)
    x_ND, weight_VD, bias_V = deep.masked_tokens(batch.inputs["token_ids"], batch.positions)
    expected = torch.nn.functional.cross_entropy(x_ND @ weight_VD.T + bias_V, batch.targets, reduction="sum")
    torch.testing.assert_close(objective.loss(deep, batch), expected)
