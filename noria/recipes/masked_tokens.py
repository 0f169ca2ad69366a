"""Masked-token pretraining: guess the tokens that are hidden (BERT, arXiv:1810.04805).

Shapes: B rows, T width, N hidden tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from noria.data.batching import BatchPlan
from noria.data.ragged import Rows, pad
from noria.data.text_encoder import MASK, NUM_SPECIAL
from noria.training.batch import Batch
from noria.training.losses import linear_cross_entropy

_COUNT_MULTIPLE = 64  # of hidden tokens: few distinct shapes
_KEEP_SHARE, _REPLACE_SHARE = 0.05, 0.05  # of the chosen tokens; the rest become [MASK]


class MaskedTokenModel(Protocol):
    """A model that can be asked for hidden tokens."""

    def masked_tokens(self, token_ids_BT: Tensor, positions_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What stands at some positions of the flattened batch: vectors (N, D), and weights (V, D) and bias (V)."""
        ...


class MaskedTokens:
    """The objective; 90/5/5 per cent of the chosen tokens are masked, replaced, kept."""

    def __init__(
        self, token_ids: Rows, *, mask_share: float, batch_tokens: int, vocabulary_size: int, seed: int
    ) -> None:
        self._plan = BatchPlan(token_ids.lengths, batch_tokens=batch_tokens, seed=seed)
        self._token_ids = token_ids
        self._mask_share = mask_share
        self._vocabulary_size = vocabulary_size
        self._seed = seed

    def __len__(self) -> int:
        return len(self._plan)

    def batch(self, index: int) -> Batch:
        """The batch at `index`; at least one token is hidden in it."""
        return self._hide(index, np.random.default_rng((self._seed, index, 1)))

    def largest(self) -> Batch:
        """The batch with the most cells."""
        return self.batch(self._plan.largest())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the hidden tokens."""
        assert batch.positions is not None
        x_ND, weight_VD, bias_V = cast("MaskedTokenModel", model).masked_tokens(
            batch.inputs["token_ids"], batch.positions
        )
        return linear_cross_entropy(x_ND, weight_VD, batch.targets, bias_V)

    def _hide(self, index: int, rng: np.random.Generator) -> Batch:
        planned = self._plan.batch(index)
        token_ids = pad([self._token_ids[row] for row in planned.rows], width=planned.width)
        lengths = np.count_nonzero(token_ids, axis=1)
        positions = rng.permutation(np.flatnonzero(token_ids))
        positions = positions[: _num_hidden(len(positions), share=self._mask_share)]
        flat = token_ids.reshape(-1)
        targets = flat[positions]
        fate = rng.random(len(positions))
        shown = np.where(fate < _KEEP_SHARE, targets, MASK)
        random_ids = rng.integers(NUM_SPECIAL, self._vocabulary_size, len(positions))
        flat[positions] = np.where(fate >= 1 - _REPLACE_SHARE, random_ids, shown)
        return Batch(
            inputs={"token_ids": torch.from_numpy(token_ids)},
            targets=torch.from_numpy(targets),
            positions=torch.from_numpy(positions),
            width=planned.width,
            rows=planned.rows,
            lengths=lengths,
        )


def _num_hidden(num_tokens: int, *, share: float) -> int:
    count = int(share * num_tokens)
    return max(1, count // _COUNT_MULTIPLE * _COUNT_MULTIPLE or count)
