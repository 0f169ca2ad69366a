"""The fail branch: repair what can be repaired, quarantine what can't, keep one row of each text.

Two passes over the shards, so that memory holds one batch, one key per row and a few numbers: the
first repairs every row and decides what becomes of it, the second repairs the survivors again (a
repair is a pure function) and writes them, and hands the others to quarantine as they came in.

Rules in the order they are applied: what the scenario's `repair` refuses (see `noria.data.text`),
`missing_label`, `broken_expectation` (the gate named the row for a value that no repair changes,
a label outside its set), then `label_conflict`, `duplicate` and `near_duplicate`.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noria.artifacts import Artifact, Draft, Ledger, read_artifact, write_artifact
from noria.config import CleanConfig
from noria.data.conflicts import Fate, settle
from noria.data.duplicates import Keys, first_equal, near_duplicate_clusters
from noria.data.preprocess import unmeasured_schema
from noria.data.quarantine import QuarantineWriter
from noria.data.rows import SYSTEM_FIELDS, ShardWriter, link_shards, read_batches, read_schema
from noria.data.verdict import read_verdict
from noria.events import Progress, progress
from noria.scenarios.base import Repaired, Scenario

logger = logging.getLogger(__name__)

_SYSTEM = tuple(field.name for field in SYSTEM_FIELDS)


@dataclass(frozen=True)
class _Decisions:
    """What becomes of each row of the input.

    Attributes
    ----------
    fate:
        A `Fate`, uint8 (R,).
    other:
        The row that stands for a duplicate, or that contradicts it, int64 (R,).
    ids:
        Row ids, bytes (R,).
    repairs:
        Rows changed, by repair.
    """

    fate: npt.NDArray[np.uint8]
    other: npt.NDArray[np.int64]
    ids: npt.NDArray[np.bytes_]
    repairs: Mapping[str, int]


def clean_rows(
    preprocessed: Artifact,
    verdict: Artifact,
    target: Path,
    *,
    quarantine: Path,
    scenario: Scenario,
    config: CleanConfig,
) -> Artifact:
    """The rows of `preprocessed`, cleaned when the gate's `verdict` on them is fail.

    On a pass the shards go on as hard links and the quarantine is empty. The columns are the same in
    both cases. Every row comes out once, here or in quarantine (asserted by the ledger).
    """
    with (
        QuarantineWriter(quarantine, parents=(preprocessed,)) as refused,
        write_artifact(target, kind="cleaned", parents=(preprocessed, verdict)) as draft,
    ):
        num_rows = preprocessed.counts["rows"]
        if verdict.facts["passed"]:
            link_shards(preprocessed.path, draft.path)
            num_kept = num_rows
            draft.facts = {"passed_through": True, "repairs": {}, "refused": {}, "example": ""}
        else:
            repair = _Repair(scenario, config, _faults(verdict, scenario.schema.names))
            with progress("clean", total=2 * num_rows) as shown:
                num_kept = _clean(preprocessed.path, draft, refused, repair=repair, shown=shown)
        draft.ledger = Ledger(rows_in=num_rows, rows_out=num_kept, quarantined=refused.num_rows)
        draft.counts = {"rows": num_kept, "quarantined": refused.num_rows}
    return read_artifact(target, verify=False)


@dataclass(frozen=True)
class _Repair:
    """The repair of one row: the scenario's, and what the gate's verdict on the row has to say."""

    scenario: Scenario
    config: CleanConfig
    faults: Mapping[str, Mapping[str, str]]
    """Row id -> content column -> why its value is wrong."""

    def __call__(self, row: Mapping[str, object]) -> Repaired:
        content = {name: value for name, value in row.items() if name not in _SYSTEM}
        repaired = self.scenario.repair(content, self.config)
        if repaired.values is None:
            return repaired
        target = self.scenario.target
        if repaired.values[target] is None:
            return replace(repaired, values=None, rule="missing_label", reason=f"`{target}` is null")
        for column, reason in self.faults.get(str(row["id"]), {}).items():
            if repaired.values[column] == row[column]:
                return replace(repaired, values=None, rule="broken_expectation", reason=reason)
        return repaired


def _faults(verdict: Artifact, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """What the failed row expectations on content columns say, by row id and column."""
    faults: dict[str, dict[str, str]] = {}
    for judgement in read_verdict(verdict.path).failed:
        if judgement.kind == "rows" and judgement.column in columns and judgement.failing_ids:
            reason = f"`{judgement.column}` should be {judgement.limit}: {judgement.why}"
            with (verdict.path / judgement.failing_ids).open(encoding="utf-8") as file:
                for line in file:
                    faults.setdefault(json.loads(line)["id"], {})[judgement.column] = reason
    return faults


def _clean(source: Path, draft: Draft, refused: QuarantineWriter, *, repair: _Repair, shown: Progress) -> int:
    """Both passes; the number of rows kept."""
    schema = unmeasured_schema(read_schema(source), repair.scenario.measure)
    decisions = _decide(source, schema, repair=repair, shown=shown)
    with ShardWriter(draft.path, read_schema(source)) as shards:
        start = 0
        for batch in read_batches(source, columns=schema.names):
            kept = []
            for index, row in enumerate(batch.to_pylist(), start):
                if decisions.fate[index] == Fate.KEEP:
                    repaired = repair(row)
                    assert repaired.values is not None, "a repair must be a pure function"
                    kept.append({**row, **repaired.values})
                else:
                    rule, reason = _why(index, row, decisions, repair=repair)
                    refused.add(row, rule=rule, reason=reason)
            if kept:
                shards.write(repair.scenario.measure(pa.RecordBatch.from_pylist(kept, schema=schema)))
            start += batch.num_rows
            shown.advance(batch.num_rows)
    draft.facts = {
        "passed_through": False,
        "repairs": decisions.repairs,
        "refused": dict(sorted(refused.by_rule.items())),
        "example": next((refused.first_reason[rule] for rule, _ in refused.by_rule.most_common(1)), ""),
    }
    logger.info("clean: %s rows kept, %s to quarantine", f"{shards.num_rows:,}", f"{refused.num_rows:,}")
    return shards.num_rows


def _decide(source: Path, schema: pa.Schema, *, repair: _Repair, shown: Progress) -> _Decisions:
    """The first pass: repair, then compare what could be repaired."""
    keys, repairs, labels = Keys(), Counter[str](), dict[object, int]()
    ids, accepted, codes = [np.zeros(0, "S1")], [np.zeros(0, bool)], [np.zeros(0, np.int64)]
    for batch in read_batches(source, columns=schema.names):
        repaired = [repair(row) for row in batch.to_pylist()]
        good = [each.values for each in repaired if each.values is not None]
        keys.extend([repair.scenario.duplicate_key(values) for values in good])
        targets = [values[repair.scenario.target] if repair.scenario.is_labelled else None for values in good]
        codes.append(np.array([labels.setdefault(label, len(labels)) for label in targets], np.int64))
        accepted.append(np.array([each.values is not None for each in repaired], bool))
        ids.append(np.array(batch.column("id").to_pylist(), bytes))
        repairs.update(name for each in repaired for name in each.repairs)
        shown.advance(batch.num_rows)
    texts = keys.array()
    settled = settle(
        equal=first_equal(texts),
        clusters=near_duplicate_clusters(texts, threshold=repair.config.near_duplicate_similarity),
        labels=np.concatenate(codes),
        policy=repair.config.label_conflicts,
    )
    is_good = np.concatenate(accepted)
    rows = np.flatnonzero(is_good)
    fate, other = np.full(len(is_good), Fate.REFUSED, dtype=np.uint8), np.arange(len(is_good))
    fate[rows], other[rows] = settled.fate, rows[settled.other]
    return _Decisions(fate, other, np.concatenate(ids), dict(sorted(repairs.items())))


def _why(index: int, row: Mapping[str, object], decisions: _Decisions, *, repair: _Repair) -> tuple[str, str]:
    """The rule that a row broke and the reason in words."""
    other = decisions.ids[decisions.other[index]].decode()
    match decisions.fate[index]:
        case Fate.DUPLICATE:
            return "duplicate", f"says the same as row {other}, which is kept"
        case Fate.NEAR_DUPLICATE:
            similarity = repair.config.near_duplicate_similarity
            return "near_duplicate", f"near duplicate of row {other}, which is kept (3-gram Jaccard ≥ {similarity:g})"
        case Fate.CONFLICT:
            return "label_conflict", f"row {other} says (nearly) the same under another `{repair.scenario.target}`"
    repaired = repair(row)
    assert repaired.values is None, "a repair must be a pure function"
    return repaired.rule, repaired.reason
