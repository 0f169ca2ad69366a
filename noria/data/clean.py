"""The fail branch: repair what can be repaired, quarantine what can't, keep one row of each text.

Two passes over the shards, so that memory holds one batch, one key per row and a few numbers: the
first repairs every row and decides what becomes of it, the second repairs the survivors again (a
repair is a pure function) and writes them, and hands the others to quarantine as they came in.

Rules in the order they are applied: what the scenario's `repair` refuses (see `noria.data.text`),
then `missing_label`, then `label_conflict`, `duplicate` and `near_duplicate`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
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
            draft.facts = {"passed_through": True, "repairs": {}, "refused": {}}
        else:
            with progress("clean", total=2 * num_rows) as shown:
                num_kept = _clean(preprocessed.path, draft, refused, scenario=scenario, config=config, shown=shown)
        draft.ledger = Ledger(rows_in=num_rows, rows_out=num_kept, quarantined=refused.num_rows)
        draft.counts = {"rows": num_kept, "quarantined": refused.num_rows}
    return read_artifact(target, verify=False)


def _clean(
    source: Path,
    draft: Draft,
    refused: QuarantineWriter,
    *,
    scenario: Scenario,
    config: CleanConfig,
    shown: Progress,
) -> int:
    """Both passes; the number of rows kept."""
    schema = unmeasured_schema(read_schema(source), scenario.measure)
    decisions = _decide(source, schema, scenario=scenario, config=config, shown=shown)
    with ShardWriter(draft.path, read_schema(source)) as shards:
        start = 0
        for batch in read_batches(source, columns=schema.names):
            rows, kept = batch.to_pylist(), []
            for index, row in enumerate(rows, start):
                if decisions.fate[index] == Fate.KEEP:
                    repaired = _repair(row, scenario, config)
                    assert repaired.values is not None, "a repair must be a pure function"
                    kept.append({**row, **repaired.values})
                else:
                    rule, reason = _why(index, row, decisions, scenario=scenario, config=config)
                    refused.add(row, rule=rule, reason=reason)
            if kept:
                shards.write(scenario.measure(pa.RecordBatch.from_pylist(kept, schema=schema)))
            start += len(rows)
            shown.advance(len(rows))
    draft.facts = {
        "passed_through": False,
        "repairs": decisions.repairs,
        "refused": dict(sorted(refused.by_rule.items())),
    }
    logger.info("clean: %s rows kept, %s to quarantine", f"{shards.num_rows:,}", f"{refused.num_rows:,}")
    return shards.num_rows


def _decide(source: Path, schema: pa.Schema, *, scenario: Scenario, config: CleanConfig, shown: Progress) -> _Decisions:
    """The first pass: repair, then compare what could be repaired."""
    keys, repairs = Keys(), Counter[str]()
    labels: dict[object, int] = {}
    ids, accepted, codes = [], [], []
    for batch in read_batches(source, columns=schema.names):
        repaired = [_repair(row, scenario, config) for row in batch.to_pylist()]
        good = [each.values for each in repaired if each.values is not None]
        keys.extend([scenario.duplicate_key(values) for values in good])
        codes.append(np.array([labels.setdefault(values[scenario.target], len(labels)) for values in good], np.int64))
        accepted.append(np.array([each.values is not None for each in repaired], dtype=bool))
        ids.append(np.array(batch.column("id").to_pylist(), dtype=bytes))
        repairs.update(name for each in repaired for name in each.repairs)
        shown.advance(batch.num_rows)
    rows = np.flatnonzero(np.concatenate([np.zeros(0, dtype=bool), *accepted]))
    texts = keys.array()
    settled = settle(
        equal=first_equal(texts),
        clusters=near_duplicate_clusters(texts, threshold=config.near_duplicate_similarity),
        labels=np.concatenate([np.zeros(0, dtype=np.int64), *codes]),
        policy=config.label_conflicts,
    )
    num_rows = sum(map(len, accepted))
    fate, other = np.full(num_rows, Fate.REFUSED, dtype=np.uint8), np.arange(num_rows)
    fate[rows], other[rows] = settled.fate, rows[settled.other]
    return _Decisions(fate, other, np.concatenate([np.zeros(0, dtype="S1"), *ids]), dict(sorted(repairs.items())))


def _repair(row: Mapping[str, object], scenario: Scenario, config: CleanConfig) -> Repaired:
    """The scenario's repair of the content columns; a row without its target is refused."""
    repaired = scenario.repair({name: value for name, value in row.items() if name not in _SYSTEM}, config)
    if repaired.values is not None and repaired.values[scenario.target] is None:
        return Repaired(None, rule="missing_label", reason=f"`{scenario.target}` is null", repairs=repaired.repairs)
    return repaired


def _why(
    index: int, row: Mapping[str, object], decisions: _Decisions, *, scenario: Scenario, config: CleanConfig
) -> tuple[str, str]:
    """The rule that a row broke and the reason in words."""
    other = decisions.ids[decisions.other[index]].decode()
    match decisions.fate[index]:
        case Fate.DUPLICATE:
            return "duplicate", f"says the same as row {other}, which is kept"
        case Fate.NEAR_DUPLICATE:
            similarity = config.near_duplicate_similarity
            return "near_duplicate", f"near duplicate of row {other}, which is kept (3-gram Jaccard ≥ {similarity:g})"
        case Fate.CONFLICT:
            return "label_conflict", f"row {other} says (nearly) the same under another `{scenario.target}`"
    repaired = _repair(row, scenario, config)
    assert repaired.values is None, "a repair must be a pure function"
    return repaired.rule, repaired.reason
