"""The next item at every position of a history, in one pass: one row a user, not one an event.

Shapes: B windows, T width, N real positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noria.config import Config
from noria.data.batching import BatchPlan
from noria.data.histories import in_order
from noria.data.item_encoder import NUM_SPECIAL, PAD, START
from noria.data.ragged import Ragged, pad
from noria.errors import TrainingError
from noria.model.recommender import Recommender
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.losses import Projected, Said, linear_cross_entropy
from noria.training.meter import flops_per_token
from noria.training.recipe import Phase

_BATCH_WINDOWS = 32


class NextItemModel(Protocol):
    """A model that can be asked for next items."""

    def next_items(self, item_ids_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions: vectors (N, D), and weights (V, D) and bias (V)."""
        ...


@dataclass(frozen=True)
class Windows:
    """Parts of histories: window i is its items with the one before them (or the start) in front.

    Attributes
    ----------
    items:
        int64: as the model reads them.
    last_row:
        int64: the number of the training row that each window ends with, for reports.
    """

    items: Ragged
    last_row: NDArray[np.int64]


def windows_of(rows: TrainingRows, *, holdout: bool, max_events: int) -> Windows:
    """The histories of the users to fit, or of the hold-out, cut from their ends into parts of `max_events` targets.

    Cut from the end, the newest events stand in a full window, as they do when the model is asked.
    """
    item, user, time, tie = (rows.tensor(name, holdout=holdout).values for name in ("item", "user", "time", "tie"))
    histories = in_order(user, time.astype(np.float64), tie)
    numbers = item[histories.order].astype(np.int64) + NUM_SPECIAL
    parts, last_rows = [], []
    for first, stop in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        history = np.concatenate([[START], numbers[first:stop]])
        for end in range(stop - first, 0, -max_events):
            parts.append(history[max(0, end - max_events) : end + 1])
            last_rows.append(histories.order[first + end - 1])
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Windows(Ragged(np.concatenate([np.empty(0, np.int64), *parts]), offsets), np.array(last_rows, np.int64))


class NextItems:
    """The objective: the model reads all of a window but its last item, and is asked for all but its first."""

    def __init__(self, windows: Windows, *, batch_tokens: int, label_smoothing: float, seed: int) -> None:
        self._windows = windows
        self._plan = BatchPlan(windows.items.lengths - 1, batch_tokens=batch_tokens, seed=seed)
        self._label_smoothing = label_smoothing

    def __len__(self) -> int:
        return len(self._plan)

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        planned = self._plan.batch(index)
        return _batch_of(self._windows, planned.rows, width=planned.width)

    def largest(self) -> Batch:
        """The batch with the most cells."""
        return self.batch(self._plan.largest())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the events."""
        return self.loss_of(self.said(model, batch), batch)

    def said(self, model: nn.Module, batch: Batch) -> Projected:
        """Logits (N, V) of the item behind each event."""
        return _said(cast("NextItemModel", model), batch)

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        assert isinstance(said, Projected)
        return _loss(said, batch, label_smoothing=self._label_smoothing)


def recommendation_recipe(
    config: Config, *, max_events: int, rows: TrainingRows, model: Recommender
) -> tuple[Phase, ...]:
    """The training of `model`, which changes as it learns.

    Raises
    ------
    TrainingError
        When a teacher was asked for: its answers to single events are none to histories.
    """
    if rows.teacher is not None:
        raise TrainingError(
            "a recommender can't learn from another's answers",
            where="params.yaml: train.distill.teacher",
            expected="none",
            next_step="`train.init_from: champion` goes on from its weights",
        )
    fit, held = (windows_of(rows, holdout=holdout, max_events=max_events) for holdout in (False, True))
    train = config.train
    objective = NextItems(fit, batch_tokens=train.batch_tokens, label_smoothing=train.label_smoothing, seed=config.seed)
    phase = Phase(
        "train",
        objective=objective,
        model=model,
        matrices=model.decoder,
        head=model.head,
        epochs=train.epochs,
        lr=train.lr,
        muon_lr=train.muon_lr,
        schedule=train.schedule,
        flops_per_token=flops_per_token(
            config.model, length=float(fit.items.lengths.mean()), vocabulary_size=len(model.head.bias)
        ),
        judge=lambda: _judge(model, held),
    )
    return (phase,)


@torch.inference_mode()
def _judge(model: Recommender, windows: Windows) -> Mapping[str, float]:
    """The loss an event of users that the model is not fitted to."""
    model.eval()
    device = next(model.parameters()).device
    order = np.argsort(windows.items.lengths, kind="stable")
    total = 0.0
    for start in range(0, len(order), _BATCH_WINDOWS):
        numbers = order[start : start + _BATCH_WINDOWS]
        batch = _batch_of(windows, numbers, width=int(windows.items.lengths[numbers].max()) - 1).to(device)
        total += float(_loss(_said(model, batch), batch))
    return {"holdout_loss": total / float((windows.items.lengths - 1).sum())}


def _said(model: NextItemModel, batch: Batch) -> Projected:
    assert batch.positions is not None
    return Projected(*model.next_items(batch.inputs["item_ids"], batch.positions))


def _loss(said: Projected, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    return linear_cross_entropy(said.vectors, said.weights, batch.targets, said.bias, label_smoothing=label_smoothing)


def _batch_of(windows: Windows, numbers: NDArray[np.int64], *, width: int) -> Batch:
    items = pad([windows.items[int(number)] for number in numbers], width=width + 1)
    read, asked = items[:, :-1].copy(), items[:, 1:].reshape(-1)
    positions = np.flatnonzero(asked != PAD)
    lengths = windows.items.lengths[numbers] - 1
    read[np.arange(width) >= lengths[:, None]] = PAD  # the last item is asked for, never read
    return Batch(
        inputs={"item_ids": torch.from_numpy(read)},
        targets=torch.from_numpy(asked[positions] - NUM_SPECIAL),
        positions=torch.from_numpy(positions),
        width=width,
        rows=windows.last_row[numbers],
        lengths=lengths,
    )
