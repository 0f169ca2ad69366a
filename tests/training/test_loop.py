import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.config import ModelConfig
from noria.data.ragged import Ragged
from noria.data.text_encoder import MASK, PAD
from noria.model.heads import PooledHead
from noria.model.text_classifier import DeepBranch, TextClassifier
from noria.model.wide import WideBranch
from noria.training.blend import set_blend
from noria.training.embeddings import cooccurrence_vectors
from noria.training.linear import class_ratios, fit_logistic
from noria.training.loop import Phase, take_step
from noria.training.losses import cross_entropy, squared_error
from noria.training.objectives import Labels, MaskedTokens
from noria.training.optimizers import build_optimizers, orthogonalize
from noria.training.schedules import build_schedule
from noria.training.state import Point, StateStore, TrainingState, restore_optimizers

COMMA = 4


def ragged(rows: list[np.ndarray]) -> Ragged:
    return Ragged(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


def some_tokens(num_rows: int = 40, *, longest: int = 16) -> Ragged:
    rng = np.random.default_rng(0)
    return ragged([rng.integers(3, 50, rng.integers(1, longest + 1)) for _ in range(num_rows)])


def branch(seed: int = 0) -> DeepBranch:
    torch.manual_seed(seed)
    config = ModelConfig(layers=1, dim=16, heads=2, feed_forward_dim=32, bigram_buckets=32)
    return DeepBranch(config, vocabulary_size=50, max_tokens=16, num_classes=2)


def labels(token_ids: Ragged, *, batch_tokens: int, **changes: object) -> Labels:
    settings = {"token_mask": 0.0, "clause_shuffle": 0.0, "clause_ends": frozenset({COMMA}), "seed": 1, **changes}
    classes = np.asarray([int(row.sum() % 2) for row in map(token_ids.__getitem__, range(len(token_ids)))])
    return Labels(token_ids, classes, loss=cross_entropy, batch_tokens=batch_tokens, **settings)


def phase(objective: Labels | MaskedTokens, deep: DeepBranch, *, name: str = "sgd", lr: float = 0.1) -> Phase:
    optimizers = build_optimizers(name, deep, matrices=deep.encoder, lr=lr, muon_lr=0.02, weight_decay=0.0)
    return Phase("test", objective, tuple(optimizers), lambda step: 1.0, 1, 1, 1, max_grad_norm=1e9)


def test_accumulated_micro_batches_step_like_the_large_batch() -> None:
    token_ids = ragged([np.arange(3, 11)] * 3 + [np.arange(20, 28)] * 7)
    large, small = labels(token_ids, batch_tokens=80), labels(token_ids, batch_tokens=32)
    weights = []
    for objective in (large, small):
        deep = branch()
        batches = [objective.micro_batch(i) for i in range(len(objective.plan))]
        take_step(phase(objective, deep), 0, batches, deep=deep)
        weights.append(deep.state_dict())
    assert len(large.plan) == 1 and len(small.plan) == 3  # of 4, 4 and 2 rows
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_overfits_one_batch(name: str) -> None:
    deep = branch()
    objective = labels(some_tokens(16), batch_tokens=10_000)
    steps, batch = phase(objective, deep, name=name, lr=1e-2), objective.micro_batch(0)
    losses = [float(take_step(steps, step, [batch], deep=deep)) / 16 for step in range(100)]
    assert losses[0] > 0.4 and losses[-1] < 0.02


@given(st.integers(0, 30))
@settings(deadline=None, max_examples=20)
def test_batches_are_pure_functions_of_seed_and_index(index: int) -> None:
    token_ids = some_tokens()
    for make in (
        lambda: MaskedTokens(token_ids, mask_share=0.2, batch_tokens=64, vocabulary_size=50, seed=3),
        lambda: labels(token_ids, batch_tokens=64, token_mask=0.3, clause_shuffle=0.5),
    ):
        first, second = make(), make()
        second.micro_batch(7)
        a, b = first.micro_batch(index), second.micro_batch(index)
        assert torch.equal(a.token_ids, b.token_ids) and torch.equal(a.targets, b.targets)


def test_masked_tokens_ask_for_what_they_hid() -> None:
    token_ids = some_tokens(200)
    objective = MaskedTokens(token_ids, mask_share=0.2, batch_tokens=2_000, vocabulary_size=50, seed=1)
    shown = originals = masked = 0
    for index in range(len(objective.plan)):
        batch, plan = objective.micro_batch(index), objective.plan.batch(index)
        original = torch.zeros_like(batch.token_ids)
        for place, row in enumerate(plan.rows):
            original[place, : len(token_ids[row])] = torch.from_numpy(token_ids[row])
        assert torch.equal(original.flatten()[batch.positions], batch.targets)
        untouched = torch.ones(original.numel(), dtype=torch.bool)
        untouched[batch.positions] = False
        assert torch.equal(batch.token_ids.flatten()[untouched], original.flatten()[untouched])
        masked += int((batch.token_ids == MASK).sum())
        shown += batch.num_targets
        originals += int((original != PAD).sum())
    assert 0.1 < shown / originals <= 0.2
    assert 0.8 < masked / shown < 1.0


def test_shuffled_clauses_are_the_same_clauses() -> None:
    rows = [np.asarray([5, 6, COMMA, 7, COMMA, 8, 9])] * 20
    batch = labels(ragged(rows), batch_tokens=1_000, clause_shuffle=1.0).micro_batch(0)
    found = {tuple(row[row != PAD].tolist()) for row in batch.token_ids}
    assert len(found) > 1
    assert all(sorted(row) == sorted(rows[0].tolist()) for row in found)


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


def test_losses_are_sums_of_the_definition() -> None:
    logits, classes = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    log_share = logits.log_softmax(-1)
    smooth = 0.9 * log_share[torch.arange(6), classes] + 0.1 * log_share.mean(-1)
    torch.testing.assert_close(cross_entropy(logits, classes, label_smoothing=0.1), -smooth.sum())
    expected = ((logits - torch.eye(3)[classes]) ** 2).sum() / 3
    torch.testing.assert_close(squared_error(logits, classes), expected)
    torch.testing.assert_close(squared_error(logits, torch.eye(3)[classes]), expected)


def test_a_head_with_one_output_and_a_squared_loss_regresses() -> None:
    torch.manual_seed(0)
    head, real = PooledHead(8, 1), torch.ones(32, 5, dtype=torch.bool)
    x = torch.randn(32, 5, 8)
    values = x.mean(1)[:, :1] * 2 + 1
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = squared_error(head(x, real), values) / 32
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01


def test_the_linear_model_is_at_the_optimum() -> None:
    rng = np.random.default_rng(0)
    rows = [np.sort(rng.choice(np.arange(1, 30), 6, replace=False)) for _ in range(80)]
    ids, classes = ragged(rows), np.asarray([int(3 in row or 5 in row) for row in rows])
    entries = rng.random(len(ids.values)).astype(np.float32)
    fitted = fit_logistic(ids, entries, classes, num_features=30, num_classes=2, inverse_regularization=10.0)
    matrix = np.zeros((80, 30), dtype=np.float64)
    matrix[np.repeat(np.arange(80), ids.lengths), ids.values] = entries
    weight = (fitted.weight[:, 1] - fitted.weight[:, 0]).double().numpy()
    margin = matrix @ weight + float(fitted.bias[1] - fitted.bias[0])
    # Binary logistic regression: the gradient of |w|²/2 + C * sum of losses vanishes.
    gradient = weight + 10.0 * matrix.T @ (1 / (1 + np.exp(-margin)) - classes)
    assert np.abs(gradient).max() < 0.05


def test_class_ratios_are_half_the_log_count_ratio_of_two_classes() -> None:
    ids, classes = ragged([np.asarray([1, 2]), np.asarray([1]), np.asarray([2, 3])]), np.asarray([0, 0, 1])
    p, q = np.asarray([1, 3, 2, 1]), np.asarray([1, 1, 2, 2])
    expected = np.abs(np.log(p / p.sum()) - np.log(q / q.sum())) / 2
    assert np.allclose(class_ratios(ids, classes, num_features=4, num_classes=2)[1:], expected[1:])


def test_tokens_in_like_company_get_like_vectors() -> None:
    rng = np.random.default_rng(0)
    topics = [np.asarray([5, 6, 7, 8]), np.asarray([15, 16, 17, 18])]
    rows = [rng.choice(topics[i % 2], 8) for i in range(400)]
    vectors = cooccurrence_vectors(ragged(rows), vocabulary_size=20, dim=4, window=4, std=0.05, seed=0)
    again = cooccurrence_vectors(ragged(rows), vocabulary_size=20, dim=4, window=4, std=0.05, seed=0)
    assert vectors is not None and again is not None
    assert torch.equal(vectors, again) and math.isclose(float(vectors.std()), 0.05, rel_tol=1e-4)
    near = torch.nn.functional.normalize(vectors, dim=-1)
    assert near[5] @ near[6] > 0.9 > 0.5 > abs(near[5] @ near[15])


def test_rows_of_one_token_say_nothing_about_neighbours() -> None:
    rows = [np.asarray([token]) for token in range(3, 20)]
    assert cooccurrence_vectors(ragged(rows), vocabulary_size=20, dim=4, window=4, std=0.05, seed=0) is None


def test_the_blend_minimizes_the_loss_and_weighs_both() -> None:
    torch.manual_seed(0)
    classes = torch.randint(0, 2, (400,))
    signal = torch.nn.functional.one_hot(classes).float()
    wide, deep = 9.0 * (signal + torch.randn(400, 2)), 0.1 * (signal + torch.randn(400, 2))
    model = TextClassifier(wide=WideBranch(3, 2), deep=branch())
    loss = set_blend(model, wide_NC=wide, deep_NC=deep, classes_N=classes, deep_weight=1.0)
    blended = model.wide_scale * wide + model.deep_scale * deep
    assert math.isclose(loss, float(torch.nn.functional.cross_entropy(blended, classes)), rel_tol=1e-5)
    for factor in (0.9, 1.1):
        assert loss <= float(torch.nn.functional.cross_entropy(factor * blended, classes)) + 1e-6
    assert 0.8 < float((model.wide_scale * wide).std() / (model.deep_scale * deep).std()) < 1.25


def test_a_branch_that_tells_no_rows_apart_does_not_drown_the_other() -> None:
    classes = torch.tensor([0, 1] * 50)
    constant = torch.tensor([[0.2, 0.0]]).expand(100, 2)
    telling = 0.1 * torch.nn.functional.one_hot(classes).float()
    model = TextClassifier(wide=WideBranch(3, 2), deep=branch())
    set_blend(model, wide_NC=constant, deep_NC=telling, classes_N=classes, deep_weight=1.0)
    assert torch.equal((model.wide_scale * constant + model.deep_scale * telling).argmax(-1), classes)
    set_blend(model, wide_NC=constant[:1], deep_NC=telling[:1], classes_N=classes[:1], deep_weight=1.0)
    assert float(model.wide_scale) <= 10 and float(model.deep_scale) <= 10


def store(directory: Path) -> StateStore:
    return StateStore(directory, fingerprint="this training")


def saved_twice(directory: Path) -> DeepBranch:
    deep = branch()
    objective = labels(some_tokens(), batch_tokens=64)
    steps = phase(objective, deep, name="muon", lr=1e-3)
    for step in (1, 2):
        take_step(steps, step, [objective.micro_batch(step)], deep=deep)
        state = TrainingState(precision="fp32", phase="train", step=step, history=[Point(step, {"loss": 0.5})])
        store(directory).save(state, model=deep, optimizers=steps.optimizers)
    return deep


def test_a_saved_state_reads_back(tmp_path: Path) -> None:
    deep = saved_twice(tmp_path)
    saved = store(tmp_path).load()
    assert saved is not None and saved.state.step == 2 and saved.state.history == [Point(2, {"loss": 0.5})]
    assert all(torch.equal(saved.model[name], tensor) for name, tensor in deep.state_dict().items())
    optimizers = build_optimizers("muon", deep, matrices=deep.encoder, lr=1e-3, muon_lr=0.02, weight_decay=0.0)
    restore_optimizers(optimizers, saved.optimizers)
    assert len(optimizers[0].state) == 4 and "exp_avg" in next(iter(optimizers[1].state.values()))


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_state_falls_back_to_the_one_before(damage: str, tmp_path: Path) -> None:
    saved_twice(tmp_path)
    newest = sorted(tmp_path.glob("state-*.safetensors"))[-1]
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1
    newest.write_bytes({"truncate": content[:-100], "flip": bytes(content), "empty": b""}[damage])
    saved = store(tmp_path).load()
    assert saved is not None and saved.state.step == 1


def test_a_state_of_another_training_is_not_taken(tmp_path: Path) -> None:
    saved_twice(tmp_path)
    assert StateStore(tmp_path, fingerprint="another").load() is None
