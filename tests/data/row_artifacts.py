"""Artifacts of rows, made and read the way the stages do."""

import pyarrow as pa

from noria.artifacts import read_artifact, write_artifact
from noria.config import PreprocessConfig
from noria.data.preprocess import preprocess_rows
from noria.data.quarantine import read_quarantine
from noria.data.rows import RowIds, ShardWriter, read_rows, row_schema
from noria.data.verdict import Judgement, Verdict, write_verdict
from noria.scenarios import load_scenario

SCENARIO = load_scenario("text-classification")


def raw(path, pairs):
    """Rows (text, label) as ingest writes them."""
    ids = RowIds()
    rows = [
        {"id": ids.of_row({"text": text, "label": label}), "origin": f"rows:{n}", "text": text, "label": label}
        for n, (text, label) in enumerate(pairs, 1)
    ]
    with write_artifact(path, kind="raw") as draft, ShardWriter(draft.path, row_schema(SCENARIO.schema)) as shards:
        for start in range(0, len(rows), 16):
            batch = [{"parent_id": None, **row} for row in rows[start : start + 16]]
            shards.write(pa.RecordBatch.from_pylist(batch, schema=shards.schema))
        draft.counts = {"rows": len(rows)}
    return read_artifact(path)


def preprocessed(directory, pairs):
    """The same, measured."""
    return preprocess_rows(
        raw(directory / "raw", pairs),
        directory / "preprocessed",
        measure=SCENARIO.measure,
        config=PreprocessConfig(batch_rows=7),
    )


def verdict(path, *, passed, failing_labels=(), failing_texts=()):
    """A verdict; on a fail, ids of rows may be given whose label is outside its set or whose text the gate refuses."""
    judgements = tuple(
        Judgement(
            name=f"in set({column})", kind="rows", column=column, why="nobody decided to add it", where="suite.yaml:1",
            passed=passed, limit=limit, observed=None, judged=10, unexpected=len(ids), failing_ids=f"{column}.jsonl",
        )
        for column, limit, ids in (("label", "neg or pos", failing_labels), ("text", "a review", failing_texts))
    )  # fmt: skip
    with write_artifact(path, kind="verdict") as draft:
        for judgement, ids in zip(judgements, (failing_labels, failing_texts), strict=True):
            (draft.path / judgement.failing_ids).write_text("".join(f'{{"id": "{id}"}}\n' for id in ids))
        write_verdict(draft.path, Verdict(10, judgements))
        draft.facts = {"passed": passed, "failed": [] if passed else [judgement.name for judgement in judgements]}
    return read_artifact(path)


def rows_of(artifact, part="."):
    """The rows of an artifact by id."""
    return {row["id"]: row for row in read_rows(artifact.path / part)}


def refused_by(directory):
    """Quarantined rows by id."""
    return {row.id: row for row in read_quarantine(directory)}
