"""Where the answer begins and ends, in every window of a context; in windows without it, the empty answer.

Shapes: B windows, T positions of a window.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.config import Config
from noria.data.batching import BatchPlan
from noria.data.ragged import pad
from noria.data.span_encoder import (
    CONTEXT_KINDS,
    KINDS,
    QUESTION_KINDS,
    SPAN,
    TOKEN_IDS,
    SpanEncoder,
    read_window,
)
from noria.data.squad import CONTEXT, QUESTION
from noria.data.windows import Window
from noria.model.span_reader import SpanReader
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.losses import Said
from noria.training.meter import flops_per_token
from noria.training.recipe import Fit, Phase

_HIDDEN = -30_000.0
_PARTS = (QUESTION, QUESTION_KINDS, CONTEXT, CONTEXT_KINDS)


class Ends:
    """The objective over windows; a target is the positions of the two ends, 0 and 0 where the window has no answer."""

    def __init__(self, rows: TrainingRows, *, holdout: bool, encoder: SpanEncoder, config: Config) -> None:
        self._parts = {name: rows.view(name, holdout=holdout) for name in _PARTS}
        spans = rows.tensor(SPAN, holdout=holdout).values.reshape(-1, 2).astype(np.int64)
        lengths = (self._parts[QUESTION].lengths.tolist(), self._parts[CONTEXT].lengths.tolist())
        self._windows: list[tuple[int, Window]] = [
            (row, window) for row, sizes in enumerate(zip(*lengths, strict=True)) for window in encoder.windows(*sizes)
        ]
        self._targets = np.array([_ends(spans[row], window) for row, window in self._windows], np.int64)
        num_tokens = np.array([w.offset + w.last - w.first for _, w in self._windows], np.int64)
        self.mean_length = float(num_tokens.mean())
        self._plan = BatchPlan(num_tokens, batch_tokens=config.train.batch_tokens, seed=config.seed)
        self._label_smoothing = 0.0 if holdout else config.train.label_smoothing

    def __len__(self) -> int:
        return len(self._plan)

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        planned = self._plan.batch(index)
        chosen = [self._windows[number] for number in planned.rows]
        read = [read_window({name: part[row] for name, part in self._parts.items()}, w) for row, w in chosen]
        inputs = {name: pad([each[name] for each in read], width=planned.width) for name in (TOKEN_IDS, KINDS)}
        return Batch(
            inputs={name: torch.from_numpy(array) for name, array in inputs.items()},
            targets=torch.from_numpy(self._targets[planned.rows]),
            positions=None,
            width=planned.width,
            rows=np.array([row for row, _ in chosen], np.int64),
            lengths=np.count_nonzero(inputs[KINDS], axis=1),
        )

    def largest(self) -> Batch:
        """The batch with the most cells."""
        return self.batch(self._plan.largest())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the windows of the mean cross entropy of the two ends; smoothed over where an end can be."""
        return self.loss_of(self.said(model, batch), batch)

    def said(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, 2, T) of the two ends."""
        return readable_logits(model, batch)

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        assert isinstance(said, Tensor)
        logits_B2T = said
        right = F.cross_entropy(logits_B2T.flatten(0, 1), batch.targets.flatten(), reduction="sum") / 2
        if not self._label_smoothing:
            return right
        log_p_B2T = logits_B2T.log_softmax(-1)
        readable_B2T = logits_B2T > _HIDDEN
        even = -(log_p_B2T * readable_B2T).sum(-1) / readable_B2T.sum(-1)
        return (1 - self._label_smoothing) * right + self._label_smoothing * even.sum() / 2


def _ends(span: np.ndarray, window: Window) -> tuple[int, int]:
    """Positions of the ends of an answer in a window, or 0 and 0 where it is not whole in it."""
    first, last = (int(end) for end in span)
    if first < window.first or last >= window.last:
        return 0, 0
    return window.offset + first - window.first, window.offset + last - window.first


def readable_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (B, 2, T) of start and end, far below all others where none can be."""
    assert isinstance(model, SpanReader)
    kinds_BT = batch.inputs[KINDS]
    logits_B2T: Tensor = model(batch.inputs[TOKEN_IDS], kinds_BT).mT
    return logits_B2T.masked_fill((kinds_BT < model.first_readable)[:, None], _HIDDEN)


def span_recipe(
    config: Config, *, encoder: SpanEncoder, rows: TrainingRows, model: SpanReader
) -> tuple[Fit | Phase, ...]:
    """The training of `model`, which changes as it learns: one phase, of which the best epoch is kept."""
    train = config.train
    learned, held_out = (Ends(rows, holdout=side, encoder=encoder, config=config) for side in (False, True))

    def judge() -> Mapping[str, float]:
        return judge_ends(model, held_out)

    phase = Phase(
        "train",
        objective=learned,
        model=model,
        matrices=model.encoder,
        head=model.head,
        epochs=train.epochs,
        lr=train.lr,
        muon_lr=train.muon_lr,
        schedule=train.schedule,
        flops_per_token=flops_per_token(config.model, length=learned.mean_length),
        judge=judge,
    )
    return (phase, Fit("finish", lambda: _finish(model)))


def _finish(model: SpanReader) -> Mapping[str, float]:
    model.compute_dtype = torch.float32
    return {}


@torch.inference_mode()
def judge_ends(model: SpanReader, objective: Ends) -> Mapping[str, float]:
    """Loss a window, in nats, and share of the windows whose two likeliest ends are right; in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    total, right, num_windows = 0.0, 0, 0
    for index in range(len(objective)):
        batch = objective.batch(index).to(device)
        logits_B2T = readable_logits(model, batch)
        total += float(F.cross_entropy(logits_B2T.flatten(0, 1), batch.targets.flatten(), reduction="sum")) / 2
        right += int((logits_B2T.argmax(-1) == batch.targets).all(-1).sum())
        num_windows += batch.num_targets
    return {"holdout_loss": total / num_windows, "holdout_exact": right / num_windows}
