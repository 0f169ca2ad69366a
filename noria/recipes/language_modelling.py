"""Next-token prediction over documents that are packed into rows of one width: no padding, static shapes.

Shapes: B rows, T width, N = B * T targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noria.model.attention import Packing
from noria.training.batch import Batch
from noria.training.losses import linear_cross_entropy


class NextTokenModel(Protocol):
    """A model that can be asked for next tokens."""

    def next_tokens(
        self, token_ids_BT: Tensor, positions_N: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What comes behind some positions: vectors (N, D), and weights (V, D) and bias (V)."""
        ...


class NextTokens:
    """The objective over one stream of tokens, in which every document ends with `end_of_document`.

    An epoch covers the stream once, cut into rows at a place that is drawn anew for each epoch, in
    a drawn order. With `inside_documents`, no token sees another document.
    """

    def __init__(
        self,
        stream: NDArray[np.generic],
        *,
        width: int,
        batch_tokens: int,
        end_of_document: int,
        inside_documents: bool,
        seed: int,
    ) -> None:
        self._stream = stream
        self._width = width
        self._rows_per_batch = max(1, batch_tokens // width)
        self._end = end_of_document
        self._inside_documents = inside_documents
        self._seed = seed
        self._num_rows = (len(stream) - 1) // width - 1  # one fewer: room for the drawn place of the first cut
        assert self._num_rows >= self._rows_per_batch, "a stream shorter than two batches"
        self._cut = self._draw(0)

    def __len__(self) -> int:
        return self._num_rows // self._rows_per_batch

    def batch(self, index: int) -> Batch:
        """The batch at `index`."""
        epoch, place = divmod(index, len(self))
        if epoch != self._cut.epoch:
            self._cut = self._draw(epoch)
        first = self._cut.first
        rows = self._cut.rows[place * self._rows_per_batch :][: self._rows_per_batch]
        cut = np.stack([self._stream[first + row * self._width :][: self._width + 1] for row in rows])
        tokens = torch.from_numpy(cut.astype(np.int64))
        num_targets = len(rows) * self._width
        return Batch(
            inputs={"token_ids": tokens[:, :-1].contiguous()},
            targets=tokens[:, 1:].reshape(-1),
            positions=torch.arange(num_targets),
            width=self._width,
            rows=rows,
            lengths=np.full(len(rows), self._width),
            layout=cut[:, :-1] == self._end if self._inside_documents else None,
        )

    def largest(self) -> Batch:
        """All are of one size."""
        return self.batch(0)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Sum over the tokens."""
        assert batch.positions is not None
        token_ids, packing = batch.inputs["token_ids"], None
        if not len(batch.rows):  # one row that nothing is asked of: every rank takes part, and kernels want tokens
            token_ids = token_ids.new_zeros(1, batch.width)
        elif batch.layout is not None:
            packing = pack(batch.layout, device=token_ids.device)
            token_ids = token_ids.reshape(1, -1)
        x_ND, weight_VD, bias_V = cast("NextTokenModel", model).next_tokens(token_ids, batch.positions, packing)
        return linear_cross_entropy(x_ND, weight_VD, batch.targets, bias_V)

    def _draw(self, epoch: int) -> _Cut:
        rng = np.random.default_rng((self._seed, epoch, 3))
        return _Cut(epoch, int(rng.integers(self._width)), rng.permutation(self._num_rows))


@dataclass(frozen=True)
class _Cut:
    """How an epoch cuts the stream: where the first row begins, and the order of the rows."""

    epoch: int
    first: int
    rows: NDArray[np.int64]


def pack(ends_BT: NDArray[np.generic], *, device: torch.device) -> Packing:
    """The documents of rows laid end to end: one begins with every row, and behind every end."""
    begins_BT = np.roll(ends_BT, 1, axis=1)
    begins_BT[:, 0] = True
    offsets = np.append(np.flatnonzero(begins_BT), begins_BT.size).astype(np.int32)
    host = torch.from_numpy(offsets)
    moved = host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
    return Packing(moved, longest=int(np.diff(offsets).max()))
