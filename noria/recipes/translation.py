"""The next token of a target, given its source and the target so far (teacher forcing).

Shapes: B pairs, S source width, T target width, N real target tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from noria.config import Config
from noria.data.batching import BatchPlan
from noria.data.ragged import Rows, pad
from noria.model.translator import Translator
from noria.training.batch import Batch
from noria.training.data import TrainingRows
from noria.training.losses import Projected, Said, linear_cross_entropy
from noria.training.meter import flops_per_token
from noria.training.recipe import Fit, Phase

PADDING = 0


class TargetTokenModel(Protocol):
    """A model that can be asked for the tokens of a target."""

    def next_tokens(self, source_BS: Tensor, target_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions of the target: vectors (N, D), and weights (V, D) and bias (V)."""
        ...


class TargetTokens:
    """The objective over pairs of rows; a target begins with a start token and ends with an end token.

    The decoder reads all of a target but its last token, and is asked for all but its first. Padded
    positions are asked for nothing, so their logits are never made.
    """

    def __init__(
        self, sources: Rows, targets: Rows, *, batch_tokens: int, label_smoothing: float = 0.0, seed: int
    ) -> None:
        lengths = np.maximum(sources.lengths, targets.lengths - 1)
        self._plan = BatchPlan(lengths, batch_tokens=batch_tokens, seed=seed, within=targets.lengths)
        self._sources = sources
        self._targets = targets
        self._label_smoothing = label_smoothing

    def __len__(self) -> int:
        return len(self._plan)

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        rows = self._plan.batch(index).rows
        source = pad([self._sources[row] for row in rows])
        target = pad([self._targets[row] for row in rows])
        read, asked = target[:, :-1].astype(np.int64), target[:, 1:].astype(np.int64)
        positions = np.flatnonzero(asked != PADDING)
        return Batch(
            inputs={"source": torch.from_numpy(source.astype(np.int64)), "target": torch.from_numpy(read)},
            targets=torch.from_numpy(asked.reshape(-1)[positions]),
            positions=torch.from_numpy(positions),
            width=read.shape[1],
            rows=rows,
            lengths=(source != PADDING).sum(1) + (asked != PADDING).sum(1),
        )

    def largest(self) -> Batch:
        """The batch with the most cells."""
        return self.batch(self._plan.largest())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the target tokens."""
        return self.loss_of(self.said(model, batch), batch)

    def said(self, model: nn.Module, batch: Batch) -> Projected:
        """Logits (N, V) of the token at each position that is asked for."""
        assert batch.positions is not None
        source_BS, target_BT = batch.inputs["source"], batch.inputs["target"]
        return Projected(*cast("TargetTokenModel", model).next_tokens(source_BS, target_BT, batch.positions))

    def loss_of(self, said: Said, batch: Batch) -> Tensor:
        """The loss, of what a model said."""
        assert isinstance(said, Projected)
        return linear_cross_entropy(
            said.vectors, said.weights, batch.targets, said.bias, label_smoothing=self._label_smoothing
        )


def translation_recipe(config: Config, *, rows: TrainingRows, model: Translator) -> tuple[Fit | Phase, ...]:
    """The training of `model`, which changes as it learns: one phase, of which the best epoch is kept."""
    train = config.train

    def objective(*, holdout: bool) -> TargetTokens:
        return TargetTokens(
            rows.view("source", holdout=holdout),
            rows.view("target", holdout=holdout),
            batch_tokens=train.batch_tokens,
            label_smoothing=0.0 if holdout else train.label_smoothing,
            seed=config.seed,
        )

    held_out, learned = objective(holdout=True), objective(holdout=False)
    lengths = [float(rows.view(name, holdout=False).lengths.mean()) for name in ("source", "target")]

    def judge() -> Mapping[str, float]:
        return {"holdout_loss": mean_loss(model, held_out)}

    phase = Phase(
        "train",
        objective=learned,
        model=model,
        matrices=model.transformer,
        head=model.head,
        epochs=train.epochs,
        lr=train.lr,
        muon_lr=train.muon_lr,
        schedule=train.schedule,
        flops_per_token=_flops_per_token(config, *lengths, vocabulary_size=len(model.frontend.tokens)),
        judge=judge,
    )
    return (phase, Fit("finish", lambda: _finish(model)))


def _finish(model: Translator) -> Mapping[str, float]:
    model.compute_dtype = torch.float32
    return {}


@torch.inference_mode()
def mean_loss(model: nn.Module, objective: TargetTokens) -> float:
    """Cross entropy a target token, in nats, over one epoch of an objective; the model is left in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    total, num_targets = 0.0, 0
    for index in range(len(objective)):
        batch = objective.batch(index)
        total += float(objective.loss(model, batch.to(device)))
        num_targets += batch.num_targets
    return total / num_targets


def _flops_per_token(config: Config, source: float, target: float, *, vocabulary_size: int) -> float:
    """Of a source and a target token on average: two stacks, each over its own tokens."""
    encoder = flops_per_token(config.model, length=source)
    decoder = flops_per_token(config.model, length=target, vocabulary_size=vocabulary_size, memory_length=source)
    return (source * encoder + target * decoder) / (source + target)
