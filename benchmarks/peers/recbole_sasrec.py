"""RecBole's SASRec on the training side of our split, an epoch at a time.

RecBole makes one training row of every event but a user's first, with the items before it; ours makes one
of a user. Times are replaced by places in the history, so that RecBole holds out the same events as we do
also where several have one time.

Shapes: N rows that judge, V items of our catalogue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

_NAME = "events"
_DROPPED = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
"""Names that RecBole 1.2 reads and NumPy 2 no longer has."""
_FIXED: Mapping[str, object] = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_only"}, "order": "TO", "mode": "full", "group_by": "user"},
    "train_neg_sample_args": None,  # softmax over all items, as ours
    "loss_type": "CE",
    "eval_batch_size": 256,
    "use_gpu": torch.cuda.is_available(),  # where ours trains, too
    "show_progress": False,
    "save_dataset": False,
    "save_dataloaders": False,
    "state": "ERROR",
}


class RecboleSasrec:
    """A SASRec of RecBole over `histories`, the last item of each held out."""

    def __init__(
        self,
        histories: Mapping[str, Sequence[str]],
        directory: Path,
        *,
        settings: Mapping[str, object],
        threads: int,
        seed: int,
    ) -> None:
        torch.set_num_threads(threads)
        _write(histories, directory / _NAME / f"{_NAME}.inter")
        for old, now in _DROPPED.items():
            setattr(np, old, now)
        given = {**_FIXED, **settings, "seed": seed, "data_path": str(directory), "checkpoint_dir": str(directory)}
        config = Config(model="SASRec", dataset=_NAME, config_dict=given)
        logging.getLogger().setLevel(logging.ERROR)
        init_seed(seed, reproducibility=True)
        dataset = create_dataset(config)
        self._training, self._held_out, _ = data_preparation(config, dataset)
        self._items: NDArray[np.str_] = dataset.field2id_token["item_id"]
        self._users: NDArray[np.str_] = dataset.field2id_token["user_id"]
        self._model = SASRec(config, dataset).to(config["device"])
        self._trainer = Trainer(config, self._model)
        self._epoch = 0

    @property
    def num_events(self) -> int:
        """Events that are learned in an epoch."""
        return len(self._training.dataset)

    def train_epoch(self) -> float:
        """Seconds of one epoch, without validation."""
        started = time.perf_counter()
        self._trainer._train_epoch(self._training, self._epoch)
        self._epoch += 1
        return time.perf_counter() - started

    @torch.inference_mode()
    def scores(self, items: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """For each user, the scores float32 (V) of `items` as the next one."""
        self._model.eval()
        places = {item: place for place, item in enumerate(self._items)}
        columns = [places[item] for item in items]
        found = {}
        for batch in self._held_out:
            interaction = batch[0].to(self._model.device)
            scores_NV = self._model.full_sort_predict(interaction).reshape(len(interaction), -1)[:, columns]
            users = self._users[interaction["user_id"].cpu().numpy()]
            found.update(zip(users, scores_NV.float().cpu().numpy(), strict=True))
        self._model.train()
        return found


def _write(histories: Mapping[str, Sequence[str]], path: Path) -> None:
    """An atomic file of RecBole; items stand in it by number, since titles may hold its separators."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{user}\t{item}\t{place}" for user, history in histories.items() for place, item in enumerate(history)]
    path.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *lines]) + "\n", encoding="utf-8")
