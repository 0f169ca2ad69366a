"""What reading a file gives: records in blocks, and what is no record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Block:
    """Consecutive records of one file, by column."""

    file: str
    numbers: Sequence[int | str]
    """1-based line (Parquet: row) of each record, or its name."""
    columns: Mapping[str, Sequence[object]]
    """Values by the scenario's column names."""


@dataclass(frozen=True)
class Rejected:
    """Something in a file that is no record."""

    origin: str
    payload: Mapping[str, object]
    rule: str
    reason: str


@dataclass(frozen=True)
class Wanted:
    """Which columns a file must have.

    Attributes
    ----------
    columns:
        The scenario's column -> the source's.
    label:
        (column, value) where the label is the file's or the directory's name.
    optional:
        Those of `columns` that a file may lack; their rows then have the empty text.
    """

    columns: Mapping[str, str]
    label: tuple[str, str] | None
    optional: frozenset[str] = frozenset()

    def among(self, found: Sequence[str]) -> Wanted:
        """The same without the optional columns that are not among those found."""
        kept = {name: key for name, key in self.columns.items() if key in found or name not in self.optional}
        return replace(self, columns=kept)

    def with_label(self, columns: Mapping[str, Sequence[object]], num_rows: int) -> Mapping[str, Sequence[object]]:
        """The columns, and the label of the file where the file has one, and nothing where an optional one lacks."""
        filled = {name: [""] * num_rows for name in self.optional if name not in columns}
        if self.label is not None:
            filled[self.label[0]] = [self.label[1]] * num_rows
        return {**columns, **filled} if filled else columns
