"""The typed pass before the gate: every row with its measured columns, and nothing put right yet.

Repairing is the cleaner's work. A fault that was smoothed over here would never be seen by the gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from noria.artifacts import Artifact, Ledger, read_artifact, write_artifact
from noria.config import PreprocessConfig
from noria.data.rows import ShardWriter, count_rows, read_batches, read_schema
from noria.errors import ConfigError
from noria.events import progress

Measure = Callable[[pa.RecordBatch], pa.RecordBatch]


def preprocess_rows(raw: Artifact, target: Path, *, measure: Measure, config: PreprocessConfig) -> Artifact:
    """Measure the rows of `raw` batch by batch into the artifact `target`; order, ids and content stay."""
    num_rows = count_rows(raw.path)
    schema = measured_schema(read_schema(raw.path), measure)
    if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
        raise ConfigError(
            f"`{twice[0]}` is carried from the source, and measured",
            where="params.yaml: source.carry",
            next_step=f"carry it under another name: carry: [my_{twice[0]}], columns: {{my_{twice[0]}: {twice[0]}}}",
        )
    with write_artifact(target, kind="preprocessed", parents=(raw,)) as draft:
        with ShardWriter(draft.path, schema) as shards, progress("preprocess", total=num_rows) as shown:
            for batch in read_batches(raw.path, batch_rows=config.batch_rows):
                shards.write(measure(batch))
                shown.advance(batch.num_rows)
        draft.ledger = Ledger(rows_in=num_rows, rows_out=shards.num_rows)
        draft.counts = {"rows": shards.num_rows}
    return read_artifact(target, verify=False)


def measured_schema(schema: pa.Schema, measure: Measure) -> pa.Schema:
    """The schema of rows of `schema` once they are measured."""
    return measure(pa.RecordBatch.from_pylist([], schema=schema)).schema


def unmeasured_schema(schema: pa.Schema, measure: Measure) -> pa.Schema:
    """The schema that rows of `schema` had before they were measured."""
    twice = measured_schema(schema, measure).names
    added = set(twice[len(schema) :])
    return pa.schema([field for field in schema if field.name not in added])
