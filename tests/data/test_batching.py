import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.batching import BatchPlan

lengths = st.lists(st.integers(1, 128), min_size=1, max_size=300).map(np.asarray)


def plan(num_tokens: np.ndarray, *, seed: int = 1) -> BatchPlan:
    return BatchPlan(num_tokens, batch_tokens=512, seed=seed)


@given(lengths, st.integers(0, 3), st.integers(0, 5))
@settings(deadline=None)
def test_an_epoch_visits_every_row_once_inside_the_budget(num_tokens: np.ndarray, seed: int, epoch: int) -> None:
    batches = plan(num_tokens, seed=seed)
    drawn = [batches.batch(i) for i in range(epoch * len(batches), (epoch + 1) * len(batches))]
    assert sorted(np.concatenate([batch.rows for batch in drawn])) == list(range(len(num_tokens)))
    for batch in drawn:
        assert num_tokens[batch.rows].max() <= batch.width
        assert batch.width <= num_tokens.max()
        assert len(batch.rows) == 1 or len(batch.rows) * batch.width <= 512


@given(lengths, st.integers(0, 50))
@settings(deadline=None)
def test_a_batch_is_a_pure_function_of_seed_and_index(num_tokens: np.ndarray, index: int) -> None:
    walked = plan(num_tokens)
    for i in range(index):
        walked.batch(i)
    jumped = plan(num_tokens)
    assert np.array_equal(walked.batch(index).rows, jumped.batch(index).rows)


def test_epochs_and_seeds_differ_and_shapes_are_few() -> None:
    num_tokens = np.random.default_rng(0).integers(5, 128, 3_000)
    first, other = plan(num_tokens), plan(num_tokens, seed=2)
    assert not np.array_equal(first.batch(0).rows, first.batch(len(first)).rows)
    assert not np.array_equal(first.batch(0).rows, other.batch(0).rows)
    shapes = {(len(batch.rows), batch.width) for batch in map(first.batch, range(len(first)))}
    assert len(shapes) <= 128 // 8 + 1
