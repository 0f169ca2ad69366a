"""Files that are a document each: text of any kind, whole."""

from __future__ import annotations

from codecs import BOM_UTF8

import pyarrow as pa

from noria.config import SourceConfig
from noria.data.blocks import Block, Rejected
from noria.data.media import is_optional
from noria.data.sources import SourceFile
from noria.errors import ConfigError, SourceError

NAME = "name"
"""The column that a document's path goes into, where a scenario has it."""
_HEAD_BYTES = 1_000


def read_document(file: SourceFile, *, source: SourceConfig, schema: pa.Schema, target: str) -> Block | Rejected:
    """The one row of a file: its text in the column `target`, its path in `name`.

    Bytes that are not valid in the encoding are kept as lone surrogates, as in a line. A file with a NUL is no
    text, whatever its ending; one that can't be read costs itself and no other.

    Raises
    ------
    ConfigError
        When the scenario's rows need more than a text.
    """
    if lacking := [field.name for field in schema if field.name != target and not is_optional(field)]:
        raise ConfigError(
            f"a document is one text, and this scenario needs {', '.join(lacking)} as well",
            where="params.yaml: source.format: documents",
            expected="auto, csv, jsonl, parquet …",
        )
    origin, limit = f"{file.name}:1", source.max_row_bytes
    try:
        payload = file.read(most=limit + 1)
    except SourceError as error:
        return Rejected(origin, {NAME: file.name}, "unreadable", error.what)
    head = {NAME: file.name, "head": payload[:_HEAD_BYTES]}
    if b"\0" in payload:
        return Rejected(origin, head, "binary", f"a NUL at byte {payload.index(0):,}: no text")
    if len(payload) > limit:
        return Rejected(origin, {**head, "truncated": True}, "too_long", f"more than source.max_row_bytes, {limit:,}")
    text = payload.removeprefix(BOM_UTF8).decode(source.encoding, "surrogateescape")
    values = {field.name: "" for field in schema} | {NAME: file.name, target: text}
    return Block(file.name, [1], {name: [values[name]] for name in schema.names})
