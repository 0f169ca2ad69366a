"""The gate as what arrives meets it: read, measured, judged, cleaned, judged again, let in or refused as a whole."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from noria.artifacts import Artifact, Ledger, digest_of, read_artifact, write_artifact
from noria.config import Config
from noria.data.clean import clean_rows
from noria.data.ingest import content_schema, ingest_objects
from noria.data.preprocess import measured_schema, preprocess_rows
from noria.data.quarantine import QUARANTINED, QuarantineWriter, gather_quarantines, read_quarantine
from noria.data.rows import link_shards, read_rows, row_schema
from noria.data.source_objects import SourceObject, read_rows_of_objects
from noria.data.verdict import Verdict, read_verdict
from noria.errors import ArtifactError, SourceEmpty, SourceError, SourceUnavailable
from noria.scenarios.base import Scenario

logger = logging.getLogger(__name__)

Judge = Callable[[Artifact, Path], Artifact]
"""(rows, where to write) -> the verdict of the scenario's suite on a part of the data."""
ROWS = "rows"
REFUSED = "refused_object"
"""The rule of rows that nothing is wrong with but the company that they came in."""
_FEW_RECORDS = 10
"""Objects of fewer, such as images, are not looked at one by one: their bad rows are in quarantine, and that is all."""
_HARMLESS = ("duplicate", "near_duplicate")


@dataclass(frozen=True)
class Gate:
    """What decides about a batch of objects; its word on each batch is an artifact below `batches`.

    A batch holds `rows/` (those that passed, measured) and what was refused; its facts say which objects it has,
    whether they `passed`, the `reasons` if not, and which expectations failed at first.
    """

    scenario: Scenario
    config: Config
    judge: Judge
    suite: Path
    batches: Path

    @property
    def rules(self) -> str:
        """A digest of all that a verdict depends on beside the objects; another release may measure other columns."""
        sections = self.config.model_dump_json(include={"scenario", "source", "preprocess", "clean", "arrivals"})
        schema = self.schema.to_string(show_field_metadata=False)
        return hashlib.sha256(self.suite.read_bytes() + sections.encode() + schema.encode()).hexdigest()[:16]

    @cached_property
    def schema(self) -> pa.Schema:
        """Of the rows that pass."""
        content = content_schema(self.config.source, self.scenario.schema)
        return measured_schema(row_schema(content), self.scenario.measure)

    def admit(self, objects: Sequence[SourceObject]) -> list[Artifact]:
        """Judge objects together; if they fail, each half of them by itself, so that bad ones hold back no good ones.

        Where the halves pass what they fail together (rows of one label in each, say), all of them are refused.

        Raises
        ------
        SourceUnavailable
            When an object can't be read for now.
        GateError
            When an expectation could not be judged.
        """
        if not objects:
            return []
        batch = self._judge_batch(objects)
        if batch.facts["passed"] or len(objects) == 1:
            return [batch]
        middle = len(objects) // 2
        halves = [*self.admit(objects[:middle]), *self.admit(objects[middle:])]
        nobody = all(half.facts["passed"] for half in halves)
        for spare in halves if nobody else [batch]:
            shutil.rmtree(spare.path)
        return [batch] if nobody else halves

    def _judge_batch(self, objects: Sequence[SourceObject]) -> Artifact:
        self.batches.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".gate-", dir=self.batches) as name:
            work = Path(name)
            try:
                raw = ingest_objects(
                    objects,
                    self.config.source,
                    schema=self.scenario.schema,
                    target=self.scenario.target,
                    raw=work / "raw",
                    quarantine=work / "ingest",
                )
            except SourceUnavailable:
                raise
            except SourceEmpty:
                return self._write(objects, work, rows=None, reasons=[], failed=[])
            except SourceError as error:
                return self._write(objects, work, rows=None, reasons=[f"{error.what} ({error.where})"], failed=[])
            return self._judge_rows(objects, raw, work)

    def _judge_rows(self, objects: Sequence[SourceObject], raw: Artifact, work: Path) -> Artifact:
        rows = preprocess_rows(raw, work / "preprocessed", measure=self.scenario.measure, config=self.config.preprocess)
        first = last = self.judge(rows, work / "check")
        if not first.facts["passed"]:
            rows = clean_rows(
                rows,
                first,
                work / "cleaned",
                quarantine=work / "clean",
                scenario=self.scenario,
                config=self.config.clean,
            )
            last = self.judge(rows, work / "recheck")
        reasons = [*_failed(read_verdict(last.path)), *self._too_much_refused(raw, work)]
        failed = [judgement.name for judgement in read_verdict(first.path).failed]
        return self._write(objects, work, rows=rows, reasons=reasons, failed=failed)

    def _too_much_refused(self, raw: Artifact, work: Path) -> list[str]:
        """What to say of objects of whose records the cleaner refused too large a share."""
        assert raw.ledger is not None
        bad, records = Counter[str](), Counter(read_rows_of_objects(raw.path))
        for stage in ("ingest", "clean"):
            for row in read_quarantine(work / stage):
                name = row.origin.rpartition(":")[0]
                bad[name] += row.rule not in _HARMLESS
                records[name] += stage == "ingest"
        shares = [(name, n, records[name]) for name, n in bad.items() if records[name] >= _FEW_RECORDS]
        shares.append(("all of them", bad.total(), raw.ledger.rows_in))
        most = self.config.arrivals.max_refused_share
        return [
            f"{name}: {n:,} of {count:,} records had to be refused (arrivals.max_refused_share: {most:g})"
            for name, n, count in shares
            if n > most * count
        ]

    def _write(
        self,
        objects: Sequence[SourceObject],
        work: Path,
        *,
        rows: Artifact | None,
        reasons: Sequence[str],
        failed: Sequence[str],
    ) -> Artifact:
        """The batch, complete with what was refused of it."""
        name = digest_of({each.name: each.tag for each in objects} | {"": self.rules})[:16]
        if reasons and rows is not None:
            _refuse(rows, work / "arrivals", reason="; ".join(reasons))
        stages = [work / stage / QUARANTINED for stage in ("ingest", "clean", "arrivals")]
        with write_artifact(self.batches / name, kind="batch") as draft:
            (draft.path / ROWS).mkdir()
            if rows is not None and not reasons:
                link_shards(rows.path, draft.path / ROWS)
            gather_quarantines(stages, draft.path / QUARANTINED)
            refused = Counter(row.rule for row in read_quarantine(draft.path))
            kept = rows.counts["rows"] if rows is not None and not reasons else 0
            draft.ledger = Ledger(_records(work), rows_out=kept, quarantined=refused.total())
            draft.counts = {"rows": kept, "quarantined": refused.total()}
            draft.facts = {
                "objects": [{"name": each.name, "tag": each.tag, "size": each.size} for each in objects],
                "rules": self.rules,
                "passed": not reasons,
                "reasons": list(reasons),
                "expectations_failed": list(failed),
                "refused": dict(sorted(refused.items())),
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            }
        names = ", ".join(each.name for each in objects[:3]) + (" …" if len(objects) > 3 else "")
        logger.info("%s: %s", names, "; ".join(reasons) or f"{kept:,} rows passed the gate")
        return read_artifact(self.batches / name, verify=False)


def _records(work: Path) -> int:
    """Records that were read; of objects that could not be read to their end none but what is in quarantine."""
    try:
        ledger = read_artifact(work / "raw", verify=False).ledger
    except ArtifactError:
        return sum(1 for _ in read_quarantine(work / "ingest"))
    assert ledger is not None
    return ledger.rows_in


def _refuse(rows: Artifact, quarantine: Path, *, reason: str) -> None:
    with QuarantineWriter(quarantine) as refused:
        for row in read_rows(rows.path):
            refused.add(row, rule=REFUSED, reason=reason)


def _failed(verdict: Verdict) -> list[str]:
    return [f"`{each.column}` should be {each.limit}: {each.why}" for each in verdict.failed]


def batch_line(batch: Artifact) -> dict[str, object]:
    """A batch as `batches.json` lists it."""
    named = ("objects", "passed", "reasons", "expectations_failed", "time")
    return {"batch": batch.path.name, **batch.counts, **{name: batch.facts[name] for name in named}}
