"""Rows of different lengths in flat arrays, in memory or mapped from files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

_KINDS = "kinds.json"


class Rows(Protocol):
    """Rows of different lengths, wherever they are."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> NDArray[np.generic]: ...

    @property
    def lengths(self) -> NDArray[np.int64]: ...


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

    def view(self, rows: NDArray[np.int64]) -> RaggedView:
        """Some rows, in the order given, where they are: mapped files stay on the disk."""
        return RaggedView(self, rows)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class RaggedView:
    """Rows of another `Ragged`, by number."""

    base: Ragged
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> NDArray[np.generic]:
        return self.base[int(self.rows[row])]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return self.base.lengths[self.rows]


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
    for name, sizes in lengths.items():
        np.save(directory / f"{name}.offsets.npy", np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    kinds = {name: dtype.str for name, dtype in types.items()}
    (directory / _KINDS).write_text(json.dumps(kinds), encoding="utf-8")
    return open_rows(directory)


def open_rows(directory: Path) -> dict[str, Ragged]:
    """Map what `store_rows` wrote."""
    tensors = {}
    for name, kind in json.loads((directory / _KINDS).read_text(encoding="utf-8")).items():
        offsets = np.load(directory / f"{name}.offsets.npy")
        path = directory / f"{name}.bin"
        # An empty file can't be mapped.
        values = np.memmap(path, dtype=kind, mode="r") if offsets[-1] else np.empty(0, kind)
        tensors[name] = Ragged(values, offsets)
    return tensors
