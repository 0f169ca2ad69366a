"""What is learned from which batch: masked tokens, then labels. Batches are pure functions of (seed, index).

Shapes: B batch, T tokens, N targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noria.data.batching import BatchPlan
from noria.data.ragged import Ragged, pad
from noria.data.text_encoder import MASK, PAD
from noria.model.text_classifier import DeepBranch
from noria.training.losses import Loss, cross_entropy

_NUM_SPECIAL = 3
_WIDTH_MULTIPLE = 4
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
        original = _padded(self._token_ids, self.plan.rows(index))
        rng = np.random.default_rng((self._seed, index, 1))
        real = original != PAD
        chosen = real & (rng.random(original.shape) < self._mask_share)
        chosen[0, 0] |= not chosen.any()
        fate = rng.random(original.shape)
        hidden = np.where(chosen & (fate >= _KEEP_SHARE + _REPLACE_SHARE), MASK, original)
        random_ids = rng.integers(_NUM_SPECIAL, self._vocabulary_size, original.shape)
        hidden = np.where(chosen & (fate < _REPLACE_SHARE), random_ids, hidden)
        positions = np.flatnonzero(chosen)
        return _micro_batch(hidden, original.ravel()[positions], positions)

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
        rows = self.plan.rows(index)
        token_ids = _padded(self._token_ids, rows)
        rng = np.random.default_rng((self._seed, index, 2))
        hidden = (token_ids != PAD) & (rng.random(token_ids.shape) < self._token_mask)
        return _micro_batch(np.where(hidden, MASK, token_ids), self._classes[rows], np.empty(0, np.int64))

    def loss(self, deep: DeepBranch, batch: MicroBatch) -> Tensor:
        """Sum over the rows."""
        return self._loss(deep(batch.token_ids), batch.targets)


Objective = MaskedTokens | Labels


def _padded(token_ids: Ragged, rows: NDArray[np.int64]) -> NDArray[np.generic]:
    return pad([token_ids[row] for row in rows], multiple_of=_WIDTH_MULTIPLE)


def _micro_batch(
    token_ids: NDArray[np.generic], targets: NDArray[np.generic], positions: NDArray[np.int64]
) -> MicroBatch:
    return MicroBatch(
        token_ids=torch.from_numpy(token_ids),
        targets=torch.from_numpy(targets),
        positions=torch.from_numpy(positions),
        num_tokens=int(np.count_nonzero(token_ids)),
    )
