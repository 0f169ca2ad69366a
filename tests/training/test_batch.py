"""Batches are cut into parts that lose nothing."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_fixtures import labels, masked_tokens, some_tokens


@given(st.integers(0, 6), st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_parts_are_the_whole_whatever_their_number(index: int, of: int) -> None:
    batch = labels(some_tokens(), batch_tokens=64).batch(index)
    parts = [batch.part(number, of=of) for number in range(of)]
    assert np.array_equal(np.concatenate([part.rows for part in parts]), batch.rows)
    assert torch.equal(torch.cat([part.targets for part in parts]), batch.targets)
    assert torch.equal(torch.cat([part.inputs["token_ids"] for part in parts]), batch.inputs["token_ids"])
    assert sum(part.num_tokens for part in parts) == batch.num_tokens
    sizes = [len(part.rows) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sizes[-1] == max(sizes)  # whose memory is measured


@given(st.integers(0, 6), st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_positions_point_at_the_same_tokens_in_a_part(index: int, of: int) -> None:
    batch = masked_tokens(some_tokens(), batch_tokens=64).batch(index)
    assert batch.positions is not None
    shown = batch.inputs["token_ids"].flatten()[batch.positions]
    expected = sorted(zip(shown.tolist(), batch.targets.tolist(), strict=True))
    found = []
    for number in range(of):
        part = batch.part(number, of=of)
        assert part.positions is not None and part.num_targets == len(part.positions)
        at = part.inputs["token_ids"].flatten()[part.positions]
        found += list(zip(at.tolist(), part.targets.tolist(), strict=True))
    assert sorted(found) == expected
