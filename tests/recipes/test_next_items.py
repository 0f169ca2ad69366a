"""Windows of histories, and targets that are never read."""

import numpy as np

from noria.data.item_encoder import PAD, START
from noria.data.ragged import Ragged
from noria.recipes.next_items import NextItems, windows_of
from noria.training.data import TrainingRows


def rows(*users: list[int]) -> TrainingRows:
    """One event a number, in the order given."""
    item = np.concatenate(users)
    user = np.repeat(np.arange(len(users)), list(map(len, users)))
    held = np.zeros(len(item), bool)
    columns = {"item": item, "user": user, "time": np.arange(len(item), dtype=np.float64), "tie": item.astype("S24")}
    offsets = np.arange(len(item) + 1)
    ids = np.array([f"{number:024d}" for number in range(len(item))], dtype="S24")
    return TrainingRows({name: Ragged(values, offsets) for name, values in columns.items()}, ids, held)


def test_every_event_is_a_target_once_and_windows_are_cut_from_the_end():
    windows = windows_of(rows([0, 1, 2, 3, 4], [7]), holdout=False, max_events=3)
    assert [windows.items[i].tolist() for i in range(3)] == [[3, 4, 5, 6], [START, 2, 3], [START, 9]]
    assert windows.last_row.tolist() == [4, 1, 5]


def test_the_model_never_reads_what_it_is_asked_for():
    windows = windows_of(rows([0, 1, 2, 3, 4], [7, 8]), holdout=False, max_events=8)
    objective = NextItems(windows, batch_tokens=64, label_smoothing=0.0, seed=0)
    batches = [objective.batch(index) for index in range(len(objective))]
    for batch in batches:
        read = batch.inputs["item_ids"].numpy()
        assert ((read != PAD).sum(1) == batch.lengths).all()
        asked = np.zeros(read.size, np.int64)
        assert batch.positions is not None
        asked[batch.positions.numpy()] = batch.targets.numpy() + 2
        assert (asked.reshape(read.shape)[:, :-1][read[:, 1:] != PAD] == read[:, 1:][read[:, 1:] != PAD]).all()
    assert sum(batch.num_targets for batch in batches) == 7
