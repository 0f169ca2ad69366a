"""Rows at rest: Parquet shards with an identity, an origin and, when augmented, a parent.

Every row carries `id` (digest of its content, stable as data grows), `origin` ("neg.txt:17": source
and position) and `parent_id` (null for originals), then the scenario's content columns, then, after
preprocessing, the measured columns that the gate judges.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

SYSTEM_FIELDS = (
    pa.field("id", pa.string(), nullable=False),
    pa.field("origin", pa.string(), nullable=False),
    pa.field("parent_id", pa.string()),
)
GROUP = pa.field("group", pa.string())
"""The column that the split adds: what a row's side was decided by."""
_BATCH_BYTES = 64 << 20
_SMALL_ROWS, _GROUP_BYTES = 100, 16 << 20
_ID_BYTES = 12  # 2**48 rows before a collision is likely


def _digest_of_bytes(value: object) -> str:
    """Bytes by their digest (twice as long would be their text); what else JSON does not know as Python writes it."""
    return "blake2b:" + hashlib.blake2b(value, digest_size=16).hexdigest() if isinstance(value, bytes) else repr(value)


_canonical_json = json.JSONEncoder(ensure_ascii=False, default=_digest_of_bytes).encode


def row_schema(content: pa.Schema) -> pa.Schema:
    """The schema of a scenario's rows: system fields first."""
    return pa.schema([*SYSTEM_FIELDS, *content])


def content_id(values: Mapping[str, object], occurrence: int = 0) -> str:
    """The id of a row: a digest of its content columns and of how many equal rows came before it.

    The first row of some content has the same id whatever surrounds it; copies are told apart, so
    that the gate can name each and the ledger can count each.
    """
    return _digest(_canonical_json([sorted(values.items()), occurrence])).hex()


class RowIds:
    """The ids of rows as they are read: `content_id`, with copies counted (about 100 bytes a distinct row)."""

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def of_row(self, values: Mapping[str, object]) -> str:
        """The id of the next row."""
        return self.of_columns({name: [value] for name, value in values.items()})[0]

    def of_columns(self, columns: Mapping[str, Sequence[object]]) -> list[str]:
        """The ids of the next rows, given by column: `content_id` of each, at twice the speed."""
        names = sorted(columns)
        pairs = ", ".join(_encode(name).replace("%", "%%").join(("[", ", %s]")) for name in names)
        template = f"[[{pairs}], "
        ids = []
        for row in zip(*(_encode_all(columns[name]) for name in names), strict=True):
            content = template % row
            digest = _digest(f"{content}0]")
            occurrence = self._seen.get(digest, 0)
            self._seen[digest] = occurrence + 1
            ids.append((_digest(f"{content}{occurrence}]") if occurrence else digest).hex())
        return ids


def _encode_all(values: Sequence[object]) -> list[str]:
    try:
        return [encode_basestring(value) for value in values]  # type: ignore[arg-type]
    except TypeError:  # not all of them are text
        return list(map(_encode, values))


def _encode(value: object) -> str:
    return encode_basestring(value) if isinstance(value, str) else _canonical_json(value)


def _digest(payload: str) -> bytes:
    return hashlib.blake2b(payload.encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).digest()


class ShardWriter:
    """Appends record batches to `part-00000.parquet`, `part-00001.parquet`, … in a directory.

    At least one shard is written, so that an empty result still has a schema.
    """

    def __init__(self, directory: Path, schema: pa.Schema, *, shard_rows: int = 100_000) -> None:
        self.directory = directory
        self.schema = schema
        self.shard_rows = shard_rows
        self.num_rows = 0
        self._num_shards = 0
        self._rows_in_shard = 0
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch; its columns must be those of the schema. Small ones wait for more: each is a row group."""
        if batch.num_rows < _SMALL_ROWS:
            self._waiting.append(batch.cast(self.schema) if batch.schema != self.schema else batch)
            self.num_rows += batch.num_rows
            rows, size = (sum(getattr(each, name) for each in self._waiting) for name in ("num_rows", "nbytes"))
            if rows >= _SMALL_ROWS or size >= _GROUP_BYTES:
                self._flush()
            return
        self._flush()
        self.num_rows += batch.num_rows
        self._append(batch)

    def _flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            together = pa.Table.from_batches(self._waiting, self.schema).combine_chunks().to_batches()
            self._waiting = []
            for batch in together:
                self._append(batch)

    def _append(self, batch: pa.RecordBatch) -> None:
        if self._writer is None or self._rows_in_shard >= self.shard_rows:
            self._open()
        assert self._writer is not None
        self._writer.write_batch(batch.cast(self.schema) if batch.schema != self.schema else batch)
        self._rows_in_shard += batch.num_rows

    def write_rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Append rows given as mappings."""
        if rows:
            self.write(pa.RecordBatch.from_pylist([dict(row) for row in rows], schema=self.schema))

    def close(self) -> None:
        """Finish the last shard."""
        self._flush()
        if self._writer is None:
            self._open()
        assert self._writer is not None
        self._writer.close()
        self._writer = None

    def _open(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"part-{self._num_shards:05d}.parquet"
        self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")
        self._num_shards += 1
        self._rows_in_shard = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_batches(
    directory: Path, *, batch_rows: int = 10_000, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a directory of shards in order, at most `batch_rows` in memory at once, or about 64 MB of them."""
    for path in shard_paths(directory):
        with pq.ParquetFile(path) as file:
            size = min(batch_rows, max(1, _BATCH_BYTES // _row_bytes(file.metadata)))
            yield from file.iter_batches(batch_size=size, columns=list(columns) if columns else None)


def _row_bytes(metadata: pq.FileMetaData) -> int:
    """Bytes of an average row, not compressed; at least 1."""
    groups = [int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups)]
    return max(1, sum(groups) // max(1, int(metadata.num_rows)))


def read_rows(directory: Path, *, columns: Sequence[str] | None = None) -> Iterator[dict[str, object]]:
    """The rows of a directory of shards in order, one mapping each."""
    for batch in read_batches(directory, columns=columns):
        yield from batch.to_pylist()


def count_rows(directory: Path) -> int:
    """Number of rows, from the footers alone."""
    return sum(pq.read_metadata(path).num_rows for path in shard_paths(directory))


def read_schema(directory: Path) -> pa.Schema:
    """The schema of a directory of shards, from the footer of the first."""
    return pq.read_schema(shard_paths(directory)[0])


def link_shards(source: Path, target: Path) -> None:
    """Give the shards of `source` second names below `target`: hard links, so no bytes are written."""
    target.mkdir(parents=True, exist_ok=True)
    for path in shard_paths(source):
        try:
            os.link(path.resolve(), target / path.name)
        except OSError:  # a file system without hard links, or DVC's cache on another one
            shutil.copy2(path, target / path.name)


def shard_paths(directory: Path) -> list[Path]:
    """The shards of a directory, in order."""
    return sorted(directory.glob("part-*.parquet"))
