"""The profile: what can only be said of all rows together, as one flat row of numbers that the gate judges.

One streaming pass. Per row it keeps a 64-bit hash of what makes it a duplicate, one of its label, and
four bytes per measured number: a million rows are about 50 MB.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from noria.data.rows import SYSTEM_FIELDS, read_batches, read_schema

_SYSTEM = {field.name for field in SYSTEM_FIELDS}
_TOTALS = ("rows", "num_classes")
_OF_ROWS = ("duplicate_", "conflicting_", "null_")
_QUANTILES = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class Profile:
    """What is true of the rows together.

    Attributes
    ----------
    values:
        `rows`; `duplicate_rows`, `duplicate_share` (rows that repeat an earlier one); `conflicting_keys`,
        `conflicting_rows` (one text, several targets); `num_classes`, `smallest_class_share`,
        `largest_class_share`; `null_share` (rows with a null in a content column); per measured number
        `<column>_mean|min|p05|median|p95|max`, per measured flag `<column>_share`.
    duplicates, conflicts:
        Positions of those rows, int64, ascending.
    contradictions:
        Positions of one conflicting row per text and target, those of one text together, int64.
    """

    values: Mapping[str, float]
    duplicates: np.ndarray
    conflicts: np.ndarray
    contradictions: np.ndarray

    def rows_behind(self, name: str) -> np.ndarray:
        """Positions of the rows that a number counts; none where it is not about particular rows."""
        if name.startswith("duplicate_"):
            return self.duplicates
        return self.conflicts if name.startswith("conflicting_") else np.empty(0, np.int64)

    def examples_of(self, name: str, limit: int) -> np.ndarray:
        """Positions of the rows to show for a number, in the order in which they explain it."""
        return self.contradictions[:limit] if name.startswith("conflicting_") else self.rows_behind(name)[:limit]


def profile_rows(
    directory: Path,
    *,
    content: Sequence[str],
    target: str,
    duplicate_key: Callable[[Mapping[str, object]], str],
    batch_rows: int,
) -> Profile:
    """Profile the shards of a directory; `content` names the scenario's columns, `target` the predicted one."""
    keys, labels = array("Q"), array("Q")
    whole = array("b")
    names = _measured(read_schema(directory), content)
    measured: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch in read_batches(directory, batch_rows=batch_rows):
        for name, parts in measured.items():
            parts.append(_narrow(batch.column(name).to_numpy(zero_copy_only=False)))
        for row in batch.select(list(content)).to_pylist():
            is_whole = None not in row.values()
            whole.append(is_whole)
            keys.append(_hash(duplicate_key(row)) if is_whole else 0)
            labels.append(_hash(str(row[target])) if is_whole else 0)
    positions = np.flatnonzero(np.frombuffer(whole, np.int8)) if whole else np.empty(0, np.int64)
    key, label = (np.array(hashes, np.uint64)[positions] for hashes in (keys, labels))
    duplicates, conflicts = positions[_repeats(key)], positions[_conflicting(key, label)]
    contradictions = conflicts[
        _first_of_pairs(np.array(keys, np.uint64)[conflicts], np.array(labels, np.uint64)[conflicts])
    ]
    values: dict[str, float] = {
        "rows": len(whole),
        "null_share": _share(len(whole) - len(positions), len(whole)),
        "duplicate_rows": len(duplicates),
        "duplicate_share": _share(len(duplicates), len(whole)),
        "conflicting_keys": len(np.unique(np.array(keys, np.uint64)[conflicts])),
        "conflicting_rows": len(conflicts),
        **_balance(label),
    }
    for name, parts in measured.items():
        values.update(_describe(name, np.concatenate([np.empty(0, np.float32), *parts]), is_flag=names[name]))
    return Profile(values, duplicates, conflicts, contradictions)


def says_of_part(name: str, *, rows: int, at_least: int) -> bool:
    """Whether a number of the profile can be judged on a part of the data that has so many rows.

    What is counted grows with the data (`rows`, `num_classes`): never. What names particular rows (duplicates,
    conflicts, nulls): always. Distributions: from `at_least` rows on.
    """
    if name in _TOTALS:
        return False
    return name.startswith(_OF_ROWS) or rows >= at_least


def rows_at(directory: Path, positions: np.ndarray, *, columns: Sequence[str]) -> Iterator[dict[str, object]]:
    """Columns of the rows at ascending `positions` of a directory of shards, one mapping a row."""
    start = 0
    for batch in read_batches(directory, columns=columns):
        low, high = np.searchsorted(positions, [start, start + batch.num_rows])
        yield from batch.take(pa.array(positions[low:high] - start)).to_pylist()
        start += batch.num_rows


def _measured(schema: pa.Schema, content: Sequence[str]) -> dict[str, bool]:
    """The numbers and flags that preprocessing measured (never null), by column: whether it is a flag."""
    return {
        field.name: pa.types.is_boolean(field.type)
        for field in schema
        if field.name not in _SYSTEM
        and field.name not in content
        and (pa.types.is_boolean(field.type) or pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
    }


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _narrow(values: np.ndarray) -> np.ndarray:
    """Float32, half the memory; what it can't hold is its largest number, as no quantile tells more of it."""
    most = float(np.finfo(np.float32).max)
    return np.clip(values.astype(np.float64), -most, most).astype(np.float32)


def _repeats(key: np.ndarray) -> np.ndarray:
    """Positions of rows whose key came before."""
    _, first = np.unique(key, return_index=True)
    is_repeat = np.ones(len(key), bool)
    is_repeat[first] = False
    return np.flatnonzero(is_repeat)


def _conflicting(key: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Positions of rows whose key occurs with several labels."""
    order = np.lexsort((label, key))
    sorted_key, sorted_label = key[order], label[order]
    changes = (sorted_key[1:] == sorted_key[:-1]) & (sorted_label[1:] != sorted_label[:-1])
    return np.flatnonzero(np.isin(key, np.unique(sorted_key[1:][changes])))


def _first_of_pairs(key: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Positions of the first row of each (key, label), in the order of the keys."""
    order = np.lexsort((label, key))
    is_new = np.ones(len(key), bool)
    is_new[1:] = (np.diff(key[order]) != 0) | (np.diff(label[order]) != 0)
    return order[is_new]


def _balance(label: np.ndarray) -> dict[str, float]:
    counts = np.unique(label, return_counts=True)[1]
    return {
        "num_classes": len(counts),
        "smallest_class_share": _share(int(counts.min(initial=len(label))), len(label)),
        "largest_class_share": _share(int(counts.max(initial=0)), len(label)),
    }


def _describe(name: str, values: np.ndarray, *, is_flag: bool) -> dict[str, float]:
    if is_flag:
        return {f"{name}_share": float(values.mean()) if len(values) else 0.0}
    if not len(values):
        return {f"{name}_{statistic}": 0.0 for statistic in ("mean", *_QUANTILES)}
    quantiles = np.quantile(values, list(_QUANTILES.values()))
    return {
        f"{name}_mean": float(values.mean(dtype=np.float64)),
        **{f"{name}_{quantile}": float(value) for quantile, value in zip(_QUANTILES, quantiles, strict=True)},
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
