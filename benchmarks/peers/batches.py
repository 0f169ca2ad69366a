"""Rows of a workload as PyTorch datasets, and batches padded to their longest row.

Shapes: B rows, T positions of the longest (source) row, U of the longest target row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from benchmarks.workloads.format import Workload
from noria.data.ragged import Ragged

IGNORED = -100  # the target of a padded position, for torch's cross entropy
_VALIDATION_BATCH = 64
_MOST_VALIDATION_BLOCKS = 128
Item = Mapping[str, Tensor]


class Rows(Dataset[dict[str, Tensor]]):
    """`input_ids` int64 (T) and `labels`: a class, or the ids of the target (U).

    The rows are tensors in memory from the start, so that a peer's loader only picks and pads them.
    """

    def __init__(self, inputs: Sequence[Tensor], labels: Sequence[Tensor]) -> None:
        self._items = [{"input_ids": ids, "labels": label} for ids, label in zip(inputs, labels, strict=True)]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self._items[row]

    def sorted_batches(self, size: int = _VALIDATION_BATCH) -> Iterator[list[dict[str, Tensor]]]:
        """Every row once, rows of like length together: the quickest way to validate."""
        items = sorted(self._items, key=lambda item: len(item["input_ids"]))
        return (items[start : start + size] for start in range(0, len(items), size))


def classified(workload: Workload, side: str, *, begin: int | None = None) -> Rows:
    """Rows and their classes; `begin` is put before every row where a model reads its answer off there."""
    prefix = [] if begin is None else [begin]
    return Rows(tensors(workload.rows(side), prefix=prefix), list(torch.from_numpy(np.array(workload.labels(side)))))


def translated(workload: Workload, side: str, *, begin: bool) -> Rows:
    """Source and target, both closed by the end token; `begin` also opens the target."""
    ids = workload.description.special_ids
    return Rows(
        tensors(workload.rows(side, "source"), suffix=[ids["eos"]]),
        tensors(workload.rows(side, "target"), prefix=[ids["bos"]] if begin else [], suffix=[ids["eos"]]),
    )


def tensors(rows: Ragged, *, prefix: Sequence[int] = (), suffix: Sequence[int] = ()) -> list[Tensor]:
    """One int64 tensor a row."""
    return [torch.tensor([*prefix, *rows[row].tolist(), *suffix]) for row in range(len(rows))]


def pad_inputs(items: Sequence[Item], *, pad: int, width: int = 0) -> dict[str, Tensor]:
    """`input_ids` int64 (B, T) and `attention_mask` int64 (B, T), 1 where a token is; at least `width` wide."""
    rows = [item["input_ids"] for item in items]
    input_ids = pad_sequence(rows, batch_first=True, padding_value=pad)
    if width > input_ids.shape[1]:
        input_ids = torch.nn.functional.pad(input_ids, (0, width - input_ids.shape[1]), value=pad)
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(input_ids.shape[1]) < lengths[:, None]
    return {"input_ids": input_ids, "attention_mask": mask.long()}


def pad_classified(items: Sequence[Item], *, pad: int, width: int = 0) -> dict[str, Tensor]:
    """`pad_inputs` and `labels` int64 (B)."""
    return {**pad_inputs(items, pad=pad, width=width), "labels": torch.stack([item["labels"] for item in items])}


def pad_translated(items: Sequence[Item], *, pad: int) -> dict[str, Tensor]:
    """`pad_inputs` and `labels` int64 (B, U), where padding is ignored by the loss."""
    labels = pad_sequence([item["labels"] for item in items], batch_first=True, padding_value=IGNORED)
    return {**pad_inputs(items, pad=pad), "labels": labels}


def blocks(workload: Workload, side: str, *, context: int) -> Tensor:
    """The token stream of a side cut into (blocks, context + 1) int64 that overlap by one token.

    The validation side is cut off after 128 blocks, for every contender the same.
    """
    stream = torch.from_numpy(np.array(workload.rows(side).values, dtype=np.int64))
    cut = stream.unfold(0, context + 1, context)
    return cut[:_MOST_VALIDATION_BLOCKS] if side == "validation" else cut
