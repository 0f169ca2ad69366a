"""Which rows are in which batch: a pure function of (seed, index), so that training resumes anywhere at once.

Rows of like length go together, so that little is padding; a batch holds as many rows as its token
budget has room for. Every epoch visits every row exactly once, in other company and another order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WIDTH_MULTIPLE = 4


class BatchPlan:
    """Batches of row numbers for rows of the given lengths.

    Rows are sorted by their padded length and, where that is equal, at random; cut by the token
    budget; and the batches are shuffled. The sorted lengths are the same in every epoch, hence so
    are the cuts, and index -> (epoch, place in it) is one division.
    """

    def __init__(self, num_tokens: NDArray[np.int64], *, batch_tokens: int, seed: int) -> None:
        self._widths = -(-num_tokens // _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
        self._cuts = _cut(np.sort(self._widths), batch_tokens)
        self._seed = seed
        self._epoch = -1
        self._batches: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts) + 1

    def rows(self, index: int) -> NDArray[np.int64]:
        """Row numbers of the batch at `index`, counted from the start of training."""
        epoch, place = divmod(index, len(self))
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[place]

    def _shuffled(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng((self._seed, epoch))
        order = np.lexsort((rng.random(len(self._widths)), self._widths))
        batches = np.split(order, self._cuts)
        return [batches[i] for i in rng.permutation(len(batches))]


def _cut(widths: NDArray[np.int64], batch_tokens: int) -> NDArray[np.int64]:
    """Where to cut ascending widths so that rows * widest stays within the budget (one row always fits)."""
    cuts, start = [], 0
    for end, width in enumerate(widths.tolist()):
        if end > start and width * (end + 1 - start) > batch_tokens:
            cuts.append(end)
            start = end
    return np.asarray(cuts, dtype=np.int64)
