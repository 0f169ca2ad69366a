"""Train and validation: by hash of the row's group, or by the scenario's own rule; leak-free, stable as data grows.

**Stability.** A row's side depends on its group alone (`noria.data.sides`), never on other rows. A
near-duplicate cluster can't be the group: clusters change as data grows (a new row joins two of
them, or gives them another name), and a row would change sides with its cluster. After cleaning
there is one row to a cluster anyway.

**No leaks.** Near duplicates (by `Scenario.leak_key`) that fall on both sides are told apart by content:
whatever is nearly the same as a validation row leaves the training set, for quarantine, with the
rule `near_validation`. So validation only ever grows, and a training row is in training or in
quarantine, never in validation.

**Limits.** A training row can be taken out when a near duplicate of it arrives on the validation
side. A pair at the threshold is missed once in a million (`noria.data.duplicates`), and of a text
with more than a hundred near duplicates that share no copy, only the nearest are compared.

**A scenario's own rule** (`Scenario.hold_out`) decides where rows are parts of something longer, such
as the events of a user. Its validation rows carry what they need of the others (docs/decisions/0015).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noria.artifacts import Artifact, Ledger, read_artifact, write_artifact
from noria.config import SplitConfig
from noria.data.duplicates import Indices, Keys, Mask, first_equal, similar_pairs
from noria.data.preprocess import unmeasured_schema
from noria.data.quarantine import QuarantineWriter
from noria.data.rows import GROUP, ShardWriter, count_rows, read_batches, read_schema
from noria.data.sides import check_group_by, group_columns, group_of, in_validation
from noria.errors import ConfigError
from noria.events import progress
from noria.scenarios.base import HeldOut, Scenario

SIDES = ("train", "validation")


@dataclass(frozen=True)
class _Sides:
    """Where each row goes: (R,) each. Augmented rows of validation rows are on neither side."""

    train: Mask
    validation: Mask
    leak: Indices
    """The validation row that a row of the training side, or its parent, is nearly the same as, or -1."""
    ids: npt.NDArray[np.bytes_]
    held: HeldOut | None
    """What the scenario's own rule says, where there is one."""


def split_rows(
    augmented: Artifact, target: Path, *, quarantine: Path, scenario: Scenario, config: SplitConfig
) -> Artifact:
    """Write `target`/train and `target`/validation, with a column `group`; rows that would leak go to `quarantine`.

    The counts of the artifact are rows per side, augmented and quarantined rows; where answers are
    classes, `facts["labels"]` has the rows per side and label; `facts["held_out"]` what a scenario's own rule counted.

    Raises
    ------
    ConfigError
        When `split.group_by` is no column of the data, or leaves a side without rows.
    """
    content = unmeasured_schema(read_schema(augmented.path), scenario.measure).names
    check_group_by(config, columns=content)
    sides = _assign(augmented.path, content, scenario=scenario, config=config)
    _check_both(sides, config, by_hash=scenario.hold_out is None)
    with (
        QuarantineWriter(quarantine, parents=(augmented,)) as refused,
        write_artifact(target, kind="splits", parents=(augmented,)) as draft,
    ):
        written = _write(augmented.path, draft.path, sides, refused, scenario=scenario, config=config)
        num_out = written["train"] + written["validation"]
        draft.ledger = Ledger(rows_in=augmented.counts["rows"], rows_out=num_out, quarantined=refused.num_rows)
        draft.counts = {**written, "quarantined": refused.num_rows}
        if scenario.labels is not None:
            draft.facts = {"labels": {side: _count_labels(draft.path / side, scenario.target) for side in SIDES}}
        if sides.held is not None:
            draft.facts = {**draft.facts, "held_out": dict(sides.held.counts)}
    return read_artifact(target, verify=False)


def _check_both(sides: _Sides, config: SplitConfig, *, by_hash: bool) -> None:
    masks = {"train": sides.train & (sides.leak < 0), "validation": sides.validation}
    for side, mask in masks.items():
        if not mask.any():
            raise ConfigError(
                f"of {len(mask):,} rows none is on the {side} side",
                where=f"params.yaml: split.validation_share: {config.validation_share:g}, by hash of "
                + (" or ".join(f"`{name}`" for name in group_columns(config)) or "the row's id")
                + ("" if by_hash else ", then by the scenario's rule"),
                expected="rows on both sides",
                next_step="a `group_by` with more different values, more rows, or another share",
            )


def _assign(source: Path, content: list[str], *, scenario: Scenario, config: SplitConfig) -> _Sides:
    """Decide every row's side, then look for leaks."""
    keys, leak_key = Keys(), scenario.leak_key or scenario.duplicate_key
    held_out, originals = [np.zeros(0, bool)], [np.zeros(0, bool)]
    ids, parents = [np.zeros(0, "S1")], [np.zeros(0, "S1")]
    with progress("split", total=count_rows(source)) as shown:
        for batch in read_batches(source, columns=content):
            rows = batch.to_pylist()
            keys.extend([leak_key(row) for row in rows])
            held_out.append(np.array([in_validation(group_of(row, config), config) for row in rows], bool))
            originals.append(np.array([row["parent_id"] is None for row in rows], bool))
            ids.append(np.array([row["id"] for row in rows], bytes))
            parents.append(np.array([row["parent_id"] or row["id"] for row in rows], bytes))
            shown.advance(len(rows))
    row_ids, is_original = np.concatenate(ids), np.concatenate(originals)
    parent = _rows_of(np.concatenate(parents), row_ids)
    side, held = np.concatenate(held_out), _held_out(source, content, scenario=scenario, config=config)
    if held is not None:
        judges = np.zeros(len(side), bool)
        judges[is_original] = held.judges
        side = judges[parent]
    train, validation = ~side, side & is_original
    leak = _leaks(keys.array(), train, validation, threshold=config.near_duplicate_similarity)
    return _Sides(train, validation, np.where(leak < 0, leak[parent], leak), row_ids, held)


def _held_out(source: Path, content: list[str], *, scenario: Scenario, config: SplitConfig) -> HeldOut | None:
    """The scenario's own rule, which sees all original rows at once; None where there is none."""
    if scenario.hold_out is None:
        return None
    rows = pa.Table.from_batches(read_batches(source, columns=content))
    return scenario.hold_out(rows.filter(pc.is_null(rows.column("parent_id"))), config)


def _leaks(keys: pa.LargeStringArray, train: Mask, validation: Mask, *, threshold: float) -> Indices:
    """For each row of the training side a validation row that is (nearly) the same, or -1, int64 (R,)."""
    text = first_equal(keys)
    held_out = np.flatnonzero(validation)[::-1]
    near = np.full(len(keys), -1, dtype=np.int64)  # by text: a validation row that is (nearly) the same
    near[text[held_out]] = held_out
    of_validation = near >= 0

    def across(left: Indices, right: Indices) -> Mask:
        undecided = np.logical_or(near[left] < 0, near[right] < 0)
        return np.not_equal(of_validation[left], of_validation[right]) & undecided

    if threshold < 1.0:
        rows = np.unique(text[train | validation])
        for left, right in similar_pairs(keys, rows=rows, threshold=threshold, wanted=across):
            trained = np.where(of_validation[left], right, left)
            near[trained] = near[np.where(of_validation[left], left, right)]
    return np.where(train, near[text], -1)


def _rows_of(parents: npt.NDArray[np.bytes_], ids: npt.NDArray[np.bytes_]) -> Indices:
    """The row of each row's parent, int64 (R,); an original's parent is itself."""
    order = np.argsort(ids)
    rows: Indices = order[np.searchsorted(ids, parents, sorter=order)]
    return rows


def _write(
    source: Path,
    target: Path,
    sides: _Sides,
    refused: QuarantineWriter,
    *,
    scenario: Scenario,
    config: SplitConfig,
) -> dict[str, int]:
    """Write both sides and the quarantine; rows per side, and augmented rows among the training rows."""
    schema = read_schema(source)
    content = unmeasured_schema(schema, scenario.measure).names
    context = sides.held.context if sides.held else pa.table({})
    schemas = {"train": schema.append(GROUP), "validation": pa.schema([*schema, GROUP, *context.schema])}
    masks = {"train": sides.train & (sides.leak < 0), "validation": sides.validation}
    num_augmented = 0
    with ExitStack() as stack:
        shards = {side: stack.enter_context(ShardWriter(target / side, schemas[side])) for side in SIDES}
        start = 0
        for batch in read_batches(source):
            part = slice(start, start + batch.num_rows)
            groups = [group_of(row, config) for row in batch.select(_group_columns(config)).to_pylist()]
            grouped = batch.append_column(GROUP, pa.array(groups, GROUP.type))
            for side in SIDES:
                chosen = grouped.filter(pa.array(masks[side][part]))
                num_augmented += chosen.num_rows - chosen.column("parent_id").null_count
                if side == "validation":
                    chosen = _with_context(chosen, context.slice(shards[side].num_rows, chosen.num_rows))
                if chosen.num_rows:
                    shards[side].write(chosen)
            left_out = np.flatnonzero(~masks["train"][part] & ~masks["validation"][part])
            for index, row in zip(left_out, batch.select(content).take(pa.array(left_out)).to_pylist(), strict=True):
                rule, reason = _why(row, sides.leak[start + index], sides.ids)
                refused.add(row, rule=rule, reason=reason)
            start = part.stop
    return {**{side: writer.num_rows for side, writer in shards.items()}, "augmented": num_augmented}


def _with_context(batch: pa.RecordBatch, context: pa.Table) -> pa.RecordBatch:
    """The batch and more columns of its rows."""
    for field, column in zip(context.schema, context.columns, strict=True):
        batch = batch.append_column(field, pa.concat_arrays([pa.array([], field.type), *column.chunks]))
    return batch


def _group_columns(config: SplitConfig) -> list[str]:
    return list(dict.fromkeys(["id", "parent_id", *group_columns(config)]))


def _why(row: Mapping[str, object], leak: np.int64, ids: npt.NDArray[np.bytes_]) -> tuple[str, str]:
    """The rule that keeps a row out of both sides, and the reason in words."""
    if leak >= 0:
        who = "it or the row it was made from is " if row["parent_id"] else ""
        return "near_validation", f"{who}(nearly) the same as row {ids[leak].decode()}, which is in the validation set"
    return "augmented_validation", f"made from row {row['parent_id']}, which is in the validation set"


def _count_labels(directory: Path, target: str) -> dict[str, int]:
    """Rows by label."""
    counts: Counter[str] = Counter()
    for batch in read_batches(directory, columns=[target]):
        for pair in batch.column(target).value_counts().to_pylist():
            counts[str(pair["values"])] += pair["counts"]
    return dict(sorted(counts.items()))
