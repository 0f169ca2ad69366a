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
        batch = self.plan.batch(index)
        token_ids = pad([self._token_ids[row] for row in batch.rows], width=batch.width)
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
    """Tell the class of a row, some of whose tokens are hidden and whose clauses may stand in another order."""

    def __init__(
        self,
        token_ids: Ragged,
        classes: NDArray[np.int64],
        *,
        loss: Loss,
        token_mask: float,
        clause_shuffle: float,
        clause_ends: frozenset[int],
        batch_tokens: int,
        seed: int,
    ) -> None:
        self.plan = BatchPlan(token_ids.lengths, batch_tokens=batch_tokens, seed=seed)
        self._token_ids = token_ids
        self._classes = classes
        self._loss = loss
        self._token_mask = token_mask
        self._clause_shuffle = clause_shuffle
        self._clause_ends = np.asarray(sorted(clause_ends), dtype=np.int64)
        self._seed = seed

    def micro_batch(self, index: int) -> MicroBatch:
        """The batch at `index`."""
        batch = self.plan.batch(index)
        rng = np.random.default_rng((self._seed, index, 2))
        rows = [
            self._shuffled(row, rng) if rng.random() < self._clause_shuffle else row
            for row in (self._token_ids[number] for number in batch.rows)
        ]
        token_ids = pad(rows, width=batch.width)
        hidden = (token_ids != PAD) & (rng.random(token_ids.shape) < self._token_mask)
        return _micro_batch(np.where(hidden, MASK, token_ids), self._classes[batch.rows], np.empty(0, np.int64))

    def loss(self, deep: DeepBranch, batch: MicroBatch) -> Tensor:
        """Sum over the rows."""
        return self._loss(deep(batch.token_ids), batch.targets)

    def _shuffled(self, row: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.generic]:
        """The clauses of a row in another order; a clause ends behind a token of punctuation."""
        ends = np.flatnonzero(np.isin(row[:-1], self._clause_ends)) + 1
        if not len(ends):
            return row
        clauses = np.split(row, ends)
        return np.concatenate([clauses[i] for i in rng.permutation(len(clauses))])


Objective = MaskedTokens | Labels


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
