"""What is learned from which batch: masked tokens, then labels. Batches are pure functions of (seed, index).

Shapes: B batch, T tokens, N targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noria.data.batching import Batch, BatchPlan
from noria.data.ragged import Ragged, pad
from noria.data.text_encoder import MASK, NUM_SPECIAL, PAD
from noria.model.text_classifier import DeepBranch
from noria.training.losses import Loss, cross_entropy

_COUNT_MULTIPLE = 64  # of hidden tokens: few distinct shapes
_KEEP_SHARE, _REPLACE_SHARE = 0.05, 0.05  # of the chosen tokens; the rest become [MASK]


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass.

    Attributes
    ----------
    token_ids:
        int64 (B, T), 0 is padding.
    targets:
        int64 (N): the hidden tokens, or the classes of the rows.
    positions:
        int64 (N): where in the flattened batch the hidden tokens are; empty for labels.
    num_tokens:
        Real tokens, for the throughput.
    """

    token_ids: Tensor
    targets: Tensor
    positions: Tensor
    num_tokens: int

    @property
    def num_targets(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to the device without waiting for it."""
        token_ids, targets, positions = (
            (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)
            for x in (self.token_ids, self.targets, self.positions)
        )
        return MicroBatch(token_ids, targets, positions, self.num_tokens)


class MaskedTokens:
    """Guess the tokens that are hidden (BERT, arXiv:1810.04805; 90/5/5 per cent masked, replaced, kept)."""

    def __init__(
        self, token_ids: Ragged, *, mask_share: float, batch_tokens: int, vocabulary_size: int, seed: int
    ) -> None:
        self.plan = BatchPlan(token_ids.lengths, batch_tokens=batch_tokens, seed=seed)
        self._token_ids = token_ids
        self._mask_share = mask_share
        self._vocabulary_size = vocabulary_size
        self._seed = seed

    def micro_batch(self, index: int) -> MicroBatch:
        """The batch at `index`; at least one token is hidden in it."""
        token_ids = _padded(self._token_ids, self.plan.batch(index))
        rng = np.random.default_rng((self._seed, index, 1))
        positions = rng.permutation(np.flatnonzero(token_ids))
        positions = positions[: _num_hidden(len(positions), share=self._mask_share)]
        flat = token_ids.reshape(-1)
        targets = flat[positions]
        fate = rng.random(len(positions))
        shown = np.where(fate < _KEEP_SHARE, targets, MASK)
        random_ids = rng.integers(NUM_SPECIAL, self._vocabulary_size, len(positions))
        flat[positions] = np.where(fate >= 1 - _REPLACE_SHARE, random_ids, shown)
        return _micro_batch(token_ids, targets, positions)

    def loss(self, deep: DeepBranch, batch: MicroBatch) -> Tensor:
        """Sum over the hidden tokens."""
        return cross_entropy(deep.masked_tokens(batch.token_ids, batch.positions), batch.targets)


class Labels:
    """Tell the class of a row in which some tokens are hidden."""

    def __init__(
        self,
        token_ids: Ragged,
        classes: NDArray[np.int64],
        *,
        loss: Loss,
        token_mask: float,
        batch_tokens: int,
        seed: int,
    ) -> None:
        self.plan = BatchPlan(token_ids.lengths, batch_tokens=batch_tokens, seed=seed)
        self._token_ids = token_ids
        self._classes = classes
        self._loss = loss
        self._token_mask = token_mask
        self._seed = seed

    def micro_batch(self, index: int) -> MicroBatch:
        """The batch at `index`."""
        batch = self.plan.batch(index)
        token_ids = _padded(self._token_ids, batch)
        rng = np.random.default_rng((self._seed, index, 2))
        hidden = (token_ids != PAD) & (rng.random(token_ids.shape) < self._token_mask)
        return _micro_batch(np.where(hidden, MASK, token_ids), self._classes[batch.rows], np.empty(0, np.int64))

    def loss(self, deep: DeepBranch, batch: MicroBatch) -> Tensor:
        """Sum over the rows."""
        return self._loss(deep(batch.token_ids), batch.targets)


Objective = MaskedTokens | Labels


def _padded(token_ids: Ragged, batch: Batch) -> NDArray[np.generic]:
    return pad([token_ids[row] for row in batch.rows], width=batch.width)


def _num_hidden(num_tokens: int, *, share: float) -> int:
    count = int(share * num_tokens)
    return max(1, count // _COUNT_MULTIPLE * _COUNT_MULTIPLE or count)


def _micro_batch(
    token_ids: NDArray[np.generic], targets: NDArray[np.generic], positions: NDArray[np.int64]
) -> MicroBatch:
    return MicroBatch(
        token_ids=torch.from_numpy(token_ids),
        targets=torch.from_numpy(targets),
        positions=torch.from_numpy(positions),
        num_tokens=int(np.count_nonzero(token_ids)),
    )
