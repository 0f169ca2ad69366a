"""Rows of different lengths in flat arrays, in memory or mapped from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: NDArray[np.generic]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.generic]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """Some rows, in the order given, copied into memory."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[source], offsets)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


def pad(rows: Sequence[NDArray[np.generic]], *, width: int | None = None) -> NDArray[np.generic]:
    """One array (rows, width) with zeros behind the shorter rows; `width` is by default the longest, at least 1."""
    width = width or max(1, *(len(row) for row in rows))
    padded = np.zeros((len(rows), width), dtype=rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def store_rows(rows: Iterable[Mapping[str, NDArray[np.generic]]], directory: Path) -> dict[str, Ragged]:
    """Write the arrays of rows to flat files, by name, and map them: memory stays with the system.

    The files are read for as long as the result is in use; whoever owns `directory` deletes them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lengths: dict[str, list[int]] = {}
    types: dict[str, np.dtype[np.generic]] = {}
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for arrays in rows:
            for name, array in arrays.items():
                if name not in files:
                    files[name] = stack.enter_context((directory / f"{name}.bin").open("wb"))
                    types[name], lengths[name] = array.dtype, []
                files[name].write(np.ascontiguousarray(array).data)
                lengths[name].append(len(array))
    tensors = {}
    for name, sizes in lengths.items():
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        path = directory / f"{name}.bin"
        # An empty file can't be mapped.
        values = np.memmap(path, dtype=types[name], mode="r") if offsets[-1] else np.empty(0, types[name])
        tensors[name] = Ragged(values, offsets)
    return tensors
