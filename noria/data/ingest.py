"""Source files to typed, content-addressed rows in shards; whatever is no row goes to quarantine."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from noria.artifacts import Artifact, Ledger, read_artifact, write_artifact
from noria.config import SourceConfig
from noria.data.blocks import Block, Rejected
from noria.data.intake import read_feedback
from noria.data.moments import number_of
from noria.data.quarantine import QuarantineWriter
from noria.data.records import read_records
from noria.data.rows import GROUP, SYSTEM_FIELDS, RowIds, ShardWriter, row_schema
from noria.data.source_objects import (
    OBJECTS,
    SourceObject,
    fetch_copies,
    find_objects,
    left_out,
    prune_mirror,
)
from noria.data.sources import SourceFile
from noria.errors import ConfigError, SourceEmpty, SourceError
from noria.events import progress

logger = logging.getLogger(__name__)

_CONVERSION_ERRORS = (pa.ArrowException, UnicodeEncodeError, TypeError, ValueError, OverflowError)


def ingest(
    source: SourceConfig,
    *,
    schema: pa.Schema,
    target: str,
    base: Path,
    raw: Path,
    quarantine: Path,
    mirror: Path | None = None,
    tags: Path | None = None,
) -> Artifact:
    """Read a source into the artifact `raw`, and what was no row into the artifact `quarantine`.

    `schema` has the scenario's content columns, `target` among them, behind which `source.carry` adds
    more; relative paths start at `base`. Objects that the gate refused as a whole are left out, and rows
    that feedback became are read as one more part of the source. `mirror` and `tags` are where copies of
    remote objects and digests of local ones are kept between runs.

    Raises
    ------
    ConfigError
        When `source` asks for what rows or files can't have.
    SourceError
        When the source is missing, unreadable, empty, lacks a column, or has no row that can be read
        (its quarantine is written even then).
    """
    objects = find_objects(source, schema=schema, base=base, mirror=mirror, remembered=tags)
    refused = left_out(objects, base=base)
    if refused:
        logger.info("left out, because the gate refused them: %s", ", ".join(each.name for each in refused))
    kept = [each for each in objects if each not in refused]
    artifact = ingest_objects(kept, source, schema=schema, target=target, raw=raw, quarantine=quarantine)
    prune_mirror(kept)
    return artifact


def ingest_objects(
    objects: Sequence[SourceObject],
    source: SourceConfig,
    *,
    schema: pa.Schema,
    target: str,
    raw: Path,
    quarantine: Path,
) -> Artifact:
    """Read some objects of a source, as `ingest` does with all.

    Raises
    ------
    ConfigError, SourceError
        As `ingest`; `SourceEmpty` where there is no record in them.
    """
    _check_carry(source, taken=(*(field.name for field in SYSTEM_FIELDS), *schema.names, GROUP.name))
    schema = content_schema(source, schema)
    fetch_copies(objects)
    with write_artifact(raw, kind="raw") as draft:
        with QuarantineWriter(quarantine) as refused, ShardWriter(draft.path, row_schema(schema)) as shards:
            rows_in, read, ids = 0, [], RowIds()
            with progress("ingest", total=len(objects), unit="files") as shown:
                for each in objects:
                    before = shards.num_rows
                    rows_in += _ingest_file(each.file, source, schema, target, shards=shards, refused=refused, ids=ids)
                    rows = shards.num_rows - before
                    read.append({"name": each.name, "tag": each.tag, "size": each.size, "rows": rows})
                    shown.advance()
        if shards.num_rows == 0:
            raise _no_rows(source.path, refused)
        listed = json.dumps(read, ensure_ascii=False, indent=0)
        (draft.path / OBJECTS).write_text(listed + "\n", encoding="utf-8")
        draft.ledger = Ledger(rows_in=rows_in, rows_out=shards.num_rows, quarantined=refused.num_rows)
        draft.counts = {"files": len(objects), "rows": shards.num_rows, "quarantined": refused.num_rows}
        refused_by_rule = dict(sorted(refused.by_rule.items()))
        draft.facts = {"source": source.path, "licence": source.licence, "refused": refused_by_rule}
    return read_artifact(raw, verify=False)


def content_schema(source: SourceConfig, schema: pa.Schema) -> pa.Schema:
    """The scenario's columns, and those that rows carry along."""
    return pa.schema([*schema, *(pa.field(name, pa.string()) for name in source.carry)])


def _check_carry(source: SourceConfig, *, taken: Sequence[str]) -> None:
    for position, name in enumerate(source.carry):
        if name in taken or name in source.carry[:position]:
            raise ConfigError(
                f"rows have a column `{name}` already",
                where="params.yaml: source.carry",
                expected=f"other names than {', '.join(taken)}, each once",
                next_step=f"carry it under another name: carry: [my_{name}], columns: {{my_{name}: {name}}}",
            )


def _ingest_file(
    file: SourceFile,
    source: SourceConfig,
    schema: pa.Schema,
    target: str,
    *,
    shards: ShardWriter,
    refused: QuarantineWriter,
    ids: RowIds,
) -> int:
    """Rows and refusals of one file, written; returns how many there were."""
    num_rows, num_refused = shards.num_rows, refused.num_rows
    num_records = 0
    if file.format == "feedback":
        parts: Iterator[Block | Rejected] = read_feedback(file, schema=schema)
    else:
        parts = read_records(file, source=source, schema=schema, target=target)
    for part in parts:
        num_records += len(part.numbers) if isinstance(part, Block) else 1
        for piece in _typed(part, schema) if isinstance(part, Block) else [part]:
            if isinstance(piece, Rejected):
                row = {**piece.payload, "id": ids.of_row(piece.payload), "origin": piece.origin}
                refused.add(row, rule=piece.rule, reason=piece.reason)
            elif piece.num_rows:
                shards.write(_with_identity(piece, ids))
    written, left_out = shards.num_rows - num_rows, refused.num_rows - num_refused
    if file.format not in ("media", "document"):
        logger.info("%s: %s rows, %s to quarantine", file.name, f"{written:,}", f"{left_out:,}")
    return num_records


def _with_identity(batch: pa.RecordBatch, ids: RowIds) -> pa.RecordBatch:
    """Put id and parent before origin's content columns, in the order of `row_schema`."""
    content = batch.drop_columns(["origin"])
    row_ids = ids.of_columns({name: content.column(name).to_pylist() for name in content.schema.names})
    return pa.RecordBatch.from_arrays(
        [pa.array(row_ids), batch.column("origin"), pa.nulls(batch.num_rows, pa.string()), *content.columns],
        schema=row_schema(content.schema),
    )


def _typed(block: Block, schema: pa.Schema) -> Iterator[pa.RecordBatch | Rejected]:
    """The block as a batch of `origin` and the content columns; rows that don't fit the types are rejected."""
    try:
        yield _batch(block, schema)
        return
    except _CONVERSION_ERRORS:
        pass  # at least one value does not fit: find which
    good: list[int] = []
    for index, number in enumerate(block.numbers):
        one = Block(block.file, [number], {name: [values[index]] for name, values in block.columns.items()})
        try:
            _batch(one, schema)
            good.append(index)
        except _CONVERSION_ERRORS as error:
            yield _misfit(one, error)
    numbers = [block.numbers[index] for index in good]
    columns = {name: [values[index] for index in good] for name, values in block.columns.items()}
    yield _batch(Block(block.file, numbers, columns), schema)


def _batch(block: Block, schema: pa.Schema) -> pa.RecordBatch:
    origins = pa.array([f"{block.file}:{number}" for number in block.numbers], pa.string())
    arrays = [_array(block.columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays([origins, *arrays], names=["origin", *schema.names])


def _array(values: Sequence[object], type: pa.DataType) -> pa.Array:
    if pa.types.is_floating(type):
        return _numbers(values, type)
    if not pa.types.is_string(type):
        return pa.array(values).cast(type) if values else pa.array([], type)
    try:
        return pa.array(values, type)
    except (pa.ArrowTypeError, pa.ArrowInvalid):  # numbers where text should be: a label 1 is the label "1"
        return pa.array([json.dumps(v) if isinstance(v, int | float) else v for v in values], type)


def _numbers(values: Sequence[object], type: pa.DataType) -> pa.Array:
    """Numbers as they are or as text; where some are neither, one by one: moments in time, and fields left empty."""
    try:
        return pa.array(values).cast(type)
    except (pa.ArrowException, OverflowError):
        return pa.array([number_of(value) for value in values], type)


def _misfit(one: Block, error: Exception) -> Rejected:
    payload = {name: values[0] for name, values in one.columns.items()}
    origin = f"{one.file}:{one.numbers[0]}"
    if not isinstance(error, UnicodeEncodeError):
        return Rejected(origin, payload, "wrong_type", f"a value does not fit its column: {error}")
    text, start = str(error.object), error.start
    is_byte = "\udc80" <= text[start] <= "\udcff"
    what = f"byte 0x{ord(text[start]) - 0xDC00:02X} is not valid in source.encoding" if is_byte else "half a character"
    before = text[max(0, start - 10) : start]
    reason = f"{what}, after {before!r} (character {start + 1}); kept as {text[start]!a}"
    return Rejected(origin, payload, "invalid_encoding", reason)


def _no_rows(path: str, refused: QuarantineWriter) -> SourceError:
    if refused.num_rows == 0:
        return SourceEmpty(
            "the source is empty",
            where=path,
            expected="at least one row",
            next_step="check that the export was complete, or change `source.path`",
        )
    (rule, count), *_ = refused.by_rule.most_common()
    return SourceError(
        f"no row of the source can be read: {count:,} of {refused.num_rows:,} broke the rule `{rule}`",
        where=f"{path} (for example {refused.first_reason[rule]})",
        expected="source.format, source.encoding and source.columns that fit the files",
        next_step=f"`noria quarantine list --stage ingest` shows them; they are all in {refused.directory}",
    )
