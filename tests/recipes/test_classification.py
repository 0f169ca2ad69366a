"""Learning labels: batches that are pure functions, shuffled clauses, and what a teacher adds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_fixtures import COMMA, branch, labels, phase_of, ragged, run_of, some_tokens, step, tiny_config

from noria.data.text_encoder import MASK, PAD
from noria.recipes.classification import Labels
from noria.training.losses import cross_entropy, distillation


@given(st.integers(0, 30))
@settings(deadline=None, max_examples=20)
def test_batches_are_pure_functions_of_seed_and_index(index: int) -> None:
    token_ids = some_tokens()
    first, second = (labels(token_ids, batch_tokens=64, token_mask=0.3, clause_shuffle=0.5) for _ in range(2))
    second.batch(7)
    a, b = first.batch(index), second.batch(index)
    assert torch.equal(a.inputs["token_ids"], b.inputs["token_ids"]) and torch.equal(a.targets, b.targets)


def test_an_epoch_has_every_row_once_with_its_class() -> None:
    token_ids = some_tokens()
    objective = labels(token_ids, batch_tokens=64)
    batches = [objective.batch(index) for index in range(len(objective))]
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(len(token_ids)))
    for batch in batches:
        assert [int(token_ids[row][0] < 26) for row in batch.rows] == batch.targets.tolist()
        assert [len(token_ids[row]) for row in batch.rows] == batch.lengths.tolist()
        assert batch.num_tokens == sum(batch.lengths)


def test_tokens_are_hidden_and_padding_never_is() -> None:
    token_ids = some_tokens(400)
    objective = labels(token_ids, batch_tokens=4_000, token_mask=0.3)
    shown = torch.cat([objective.batch(index).inputs["token_ids"].flatten() for index in range(len(objective))])
    hidden = int((shown == MASK).sum())
    assert int((shown != PAD).sum()) == len(token_ids.values)
    assert 0.25 < hidden / len(token_ids.values) < 0.35


def test_shuffled_clauses_are_the_same_clauses() -> None:
    rows = [np.asarray([5, 6, COMMA, 7, COMMA, 8, 9])] * 20
    batch = labels(ragged(rows), batch_tokens=1_000, clause_shuffle=1.0).batch(0)
    found = {tuple(row[row != PAD].tolist()) for row in batch.inputs["token_ids"]}
    assert len(found) > 1
    assert all(sorted(row) == sorted(rows[0].tolist()) for row in found)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_overfits_one_batch(name: str) -> None:
    objective = labels(some_tokens(16), batch_tokens=10_000)
    run = run_of(phase_of(objective, branch(), lr=1e-2), optimizer=name)
    assert len(objective) == 1
    losses = [step(run, number) for number in range(100)]
    assert losses[0] > 0.4 and losses[-1] < 0.02


def test_a_teacher_has_its_share_of_the_loss() -> None:
    token_ids = some_tokens(8)
    classes = np.asarray([0, 1] * 4)
    teacher_NC = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    config = tiny_config(batch_tokens=1_000, distill={"weight": 0.3, "temperature": 2.0}, label_smoothing=0.0)
    objective = Labels(token_ids, classes, config=config, clause_ends=frozenset(), teacher_NC=teacher_NC)
    deep, batch = branch(), objective.batch(0)
    logits_NC = deep(batch.inputs["token_ids"])
    taught = distillation(logits_NC, torch.from_numpy(teacher_NC[batch.rows]), temperature=2.0)
    expected = 0.7 * cross_entropy(logits_NC, batch.targets) + 0.3 * taught
    torch.testing.assert_close(objective.loss(deep, batch), expected)
