"""The training side of the split, encoded: flat arrays on disk, and a hold-out of its own.

The rows that judge (the validation side) are never opened here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from noria.data.ragged import Ragged, RaggedView, open_rows, store_rows
from noria.data.rows import read_batches, shard_paths
from noria.errors import TrainingError
from noria.scenarios.base import Encoder, Scenario

_BATCH_ROWS = 5_000
_FACTS = "rows.npz"
ANSWERS = "answers.npy"
"""A teacher's logits for the rows to fit, beside them."""
CLASS = "class"
"""What the target of a row is called where it is a class: int64 (1)."""


@dataclass(frozen=True)
class TrainingRows:
    """Encoded rows, what is to be learned of them, and their ids; `holdout` says which only pick and calibrate.

    `teacher` is what a teacher answers to the rows to fit, logits float32 (N, C), where there is one.
    """

    tensors: Mapping[str, Ragged]
    ids: NDArray[np.bytes_]
    holdout: NDArray[np.bool_]
    teacher: NDArray[np.float32] | None = None

    def tensor(self, name: str, *, holdout: bool) -> Ragged:
        """One tensor of the rows to fit, or of the hold-out, copied into memory."""
        return self.tensors[name].take(np.flatnonzero(self.holdout == holdout))

    def view(self, name: str, *, holdout: bool) -> RaggedView:
        """The same where it is, on disk."""
        return self.tensors[name].view(np.flatnonzero(self.holdout == holdout))

    def row_id(self, row: int) -> str:
        """Id of a row to fit, by its number among those."""
        return str(self.ids[~self.holdout][row], "ascii")

    def classes(self, *, holdout: bool) -> NDArray[np.int64]:
        """Class numbers of the rows to fit, or of the hold-out."""
        return self.tensor(CLASS, holdout=holdout).values.astype(np.int64)

    @property
    def num_rows(self) -> int:
        return len(self.holdout)


def open_training_rows(scratch: Path) -> TrainingRows:
    """What `TrainingSide.encode` wrote, with the teacher's answers where there are any."""
    answers = scratch / ANSWERS
    teacher_NC = np.load(answers, mmap_mode="r") if answers.exists() else None
    with np.load(scratch / _FACTS) as facts:
        return TrainingRows(open_rows(scratch), facts["ids"], facts["holdout"], teacher_NC)


class TrainingSide:
    """Rows of a split's `train` directory, read as often as needed; those of the hold-out are told by hash."""

    def __init__(self, directory: Path, *, scenario: Scenario, holdout_share: float) -> None:
        self._directory = directory
        self._scenario = scenario
        self._share = holdout_share
        present = set(pq.read_schema(shard_paths(directory)[0]).names)
        wanted = ["id", "parent_id", "group", *scenario.schema.names]
        self._columns = [name for name in dict.fromkeys(wanted) if name in present]

    def fitting_rows(self) -> Iterator[Mapping[str, object]]:
        """The rows outside the hold-out."""
        for rows in self._batches():
            yield from (row for row in rows if not self._is_held_out(row))

    def encode(self, encoder: Encoder, *, scratch: Path) -> TrainingRows:
        """Encode everything into files below `scratch`.

        Left out are augmented rows of the hold-out, and rows of which nothing can be learned.

        Raises
        ------
        TrainingError
            When the hold-out, or what it leaves, is empty.
        """
        ids: list[bytes] = []
        holdout: list[bool] = []

        def encoded() -> Iterator[Mapping[str, NDArray[np.generic]]]:
            for rows in self._batches():
                pairs = zip(rows, encoder.targets(rows), strict=True)
                kept = [
                    (row, targets)
                    for row, targets in pairs
                    if targets is not None and not (row["parent_id"] is not None and self._is_held_out(row))
                ]
                encoded_rows = encoder.encode_batch([row for row, _ in kept])
                for (row, targets), tensors in zip(kept, encoded_rows, strict=True):
                    ids.append(str(row["id"]).encode("ascii"))
                    holdout.append(self._is_held_out(row))
                    yield {**tensors, **targets}

        stored = store_rows(encoded(), scratch)
        held = np.asarray(holdout, dtype=bool)
        if not held.any() or held.all():
            raise TrainingError(
                f"{len(held)} training rows can't be divided into rows to fit and a hold-out",
                where=str(self._directory),
                expected="at least a few dozen rows",
                next_step="add data, or change `train.holdout_share`",
            )
        rows = TrainingRows(stored, np.asarray(ids), held)
        np.savez(scratch / _FACTS, ids=rows.ids, holdout=rows.holdout)
        return rows

    def _batches(self) -> Iterator[list[dict[str, object]]]:
        for batch in read_batches(self._directory, batch_rows=_BATCH_ROWS, columns=self._columns):
            yield batch.to_pylist()

    def _is_held_out(self, row: Mapping[str, object]) -> bool:
        """By hash of the row's group, so that augmented rows follow, and a row stays where it is as data grows."""
        group = row.get("group") or row["parent_id"] or row["id"]
        digest = hashlib.blake2b(f"holdout\0{group}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._share * 2**64
