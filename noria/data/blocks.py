"""What reading a source yields: blocks of records, and what is no record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """Consecutive records of one file, by column."""

    file: str
    numbers: Sequence[int]
    """1-based line (Parquet: row) of each record."""
    columns: Mapping[str, Sequence[object]]
    """Values by the scenario's column names."""


@dataclass(frozen=True)
class Rejected:
    """Something in a file that is no record."""

    origin: str
    payload: Mapping[str, object]
    rule: str
    reason: str
