"""Which rows are in which batch: a pure function of (seed, index), so that training resumes anywhere at once.

Rows of like length go together, so that little is padding. Widths are multiples of eight and every
width has its own number of rows, so that an epoch has few distinct shapes: a new shape costs the
CPU's matrix kernels milliseconds each, and a compiled graph a recompilation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WIDTH_MULTIPLE = 8


@dataclass(frozen=True)
class Batch:
    """Row numbers, and the length that they are padded to."""

    rows: NDArray[np.int64]
    width: int


class BatchPlan:
    """Batches of rows of the given lengths; an epoch visits every row exactly once, in other company each time.

    `within` is the length of something else that is padded too: rows of one length then stand in its
    order, and lengths are not rounded, so that both sides have little padding. How many batches an
    epoch has depends on the lengths alone, so index -> (epoch, place in it) is one division.
    """

    def __init__(
        self,
        num_tokens: NDArray[np.int64],
        *,
        batch_tokens: int,
        seed: int,
        within: NDArray[np.int64] | None = None,
    ) -> None:
        multiple = _WIDTH_MULTIPLE if within is None else 1
        rounded = -(-num_tokens // multiple) * multiple
        self._widths = np.minimum(rounded, num_tokens.max())  # never longer than the model has positions for
        self._within = within
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._epoch = 0
        self._batches = self._shuffled(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._batches)

    def batch(self, index: int) -> Batch:
        """The batch at `index`, counted from the start of training."""
        epoch, place = divmod(index, len(self))
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[place]

    def largest(self) -> int:
        """Index of a batch with the most cells, padding included: what needs the most memory."""
        cells = [len(batch.rows) * batch.width for batch in self._shuffled(0)]
        return int(np.argmax(cells))

    def _shuffled(self, epoch: int) -> list[Batch]:
        rng = np.random.default_rng((self._seed, epoch))
        batches = list(self._full_batches(rng))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _full_batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Width by width; rows left over are padded with those of the next width, the very last may be few."""
        order = rng.permutation(len(self._widths))
        waiting = np.empty(0, dtype=np.int64)
        widths = np.unique(self._widths).tolist()
        for width in widths:
            waiting = rng.permutation(np.concatenate([waiting, order[self._widths[order] == width]]))
            if self._within is not None:
                waiting = waiting[np.argsort(self._within[waiting], kind="stable")]
            size = max(1, self._batch_tokens // width)
            num_full = len(waiting) // size * size
            yield from (Batch(rows, width) for rows in waiting[:num_full].reshape(-1, size))
            waiting = waiting[num_full:]
        if len(waiting):
            yield Batch(waiting, widths[-1])
