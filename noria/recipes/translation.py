"""The next token of a target, given its source and the target so far (teacher forcing).

Shapes: B pairs, S source width, T target width, N real target tokens.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from noria.data.batching import BatchPlan
from noria.data.ragged import Rows, pad
from noria.training.batch import Batch
from noria.training.losses import linear_cross_entropy

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
        assert batch.positions is not None
        x_ND, weight_VD, bias_V = cast("TargetTokenModel", model).next_tokens(
            batch.inputs["source"], batch.inputs["target"], batch.positions
        )
        return linear_cross_entropy(x_ND, weight_VD, batch.targets, bias_V, label_smoothing=self._label_smoothing)
