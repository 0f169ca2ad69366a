"""Rows that hold a media file: one file a row, described by its name, or files that the rows of a table name.

A row holds the bytes themselves, so shards say everything and a file that changes later changes no row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath

import pyarrow as pa

from noria.config import SourceConfig
from noria.data.blocks import Block, Rejected
from noria.data.sources import SourceFile
from noria.errors import ConfigError, SourceError

OPTIONAL: Mapping[bytes | str, bytes | str] = {"optional": "true"}
"""Metadata of a column of text that a source may lack."""
_LABEL = "label"
_HEAD_BYTES = 1_000


def binary_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns that hold bytes."""
    return tuple(field.name for field in schema if pa.types.is_binary(field.type))


def is_optional(field: pa.Field) -> bool:
    """Whether a source may lack this column."""
    return bool(field.metadata and b"optional" in field.metadata)


def read_media(file: SourceFile, *, source: SourceConfig, schema: pa.Schema, target: str) -> Block | Rejected:
    """The one row of a file whose name follows `source.pattern`.

    Raises
    ------
    ConfigError
        When the scenario's rows hold no file, or a pattern that gives not all of their columns.
    """
    column, needed = _columns_of(schema, target)
    named = _pattern(source.pattern)
    if lacking := [name for name in needed if name not in (_LABEL, *named.groupindex)]:
        raise ConfigError(
            f"the pattern has no `{{{lacking[0]}}}`",
            where=f"params.yaml: source.pattern: {source.pattern}",
            expected=", ".join(f"{{{name}}}" for name in needed),
        )
    path = PurePosixPath(file.name)
    found = named.search("/" + str(path.with_suffix("")))
    if found is None:
        reason = f"the name does not follow `source.pattern`, {source.pattern}"
        return Rejected(f"{file.name}:1", {"name": file.name}, "unknown_name", reason)
    texts = {name: text for name, text in found.groupdict().items() if name in schema.names}
    values = {name: texts.get(name, "") for name in schema.names if name != column}
    values[target] = found[_LABEL].replace("_", " ")
    payload = _load(file, origin=f"{file.name}:1", values=values, source=source)
    if isinstance(payload, Rejected):
        return payload
    return Block(file.name, [1], {column: [payload], **{name: [value] for name, value in values.items()}})


def with_files(
    parts: Iterable[Block | Rejected], file: SourceFile, *, source: SourceConfig, columns: Sequence[str]
) -> Iterator[Block | Rejected]:
    """The records of a table, with the bytes of the files that they name; a row whose file can't be had is rejected."""
    for part in parts:
        if isinstance(part, Rejected) or not columns:
            yield part
            continue
        for index, number in enumerate(part.numbers):  # row by row: files are large
            values = {name: rows[index] for name, rows in part.columns.items()}
            yield _with_file(file, f"{part.file}:{number}", number, values, source=source, column=columns[0])


def _with_file(
    file: SourceFile, origin: str, number: int, values: Mapping[str, object], *, source: SourceConfig, column: str
) -> Block | Rejected:
    named = values[column]
    if isinstance(named, str):
        path = PurePosixPath(named)
        if not named or path.is_absolute() or ".." in path.parts or "\0" in named:
            reason = f"`{column}` should be a path from the folder of the table into it: {named!r}"
            return Rejected(origin, values, "bad_path", reason)
        if PurePosixPath(source.path).name == file.name:
            raise ConfigError(
                "the files that a table names are part of the source",
                where=f"params.yaml: source.path: {source.path}",
                expected="the folder that holds the table and the files, so that a change of either is seen",
                next_step=f"source.path: {PurePosixPath(source.path).parent}",
            )
        named = _load(file.beside(named), origin=origin, values=values, source=source)
        if isinstance(named, Rejected):
            return named
    return Block(file.name, [number], {name: [named if name == column else v] for name, v in values.items()})


def _load(file: SourceFile, *, origin: str, values: Mapping[str, object], source: SourceConfig) -> bytes | Rejected:
    limit = source.max_row_bytes
    try:
        payload, size = file.read_bytes(most=limit + 1)
    except SourceError as error:
        return Rejected(origin, {**values, "file": file.name}, "missing_file", error.what)
    if size > limit or len(payload) > limit:
        head = {**values, "file": file.name, "head": payload[:_HEAD_BYTES], "num_bytes": size}
        return Rejected(origin, head, "too_long", f"{size:,} bytes, and source.max_row_bytes is {limit:,}")
    return payload


def _columns_of(schema: pa.Schema, target: str) -> tuple[str, list[str]]:
    """The column of the bytes, and what a name must say."""
    binary = binary_columns(schema)
    if not binary:
        raise ConfigError(
            "a row of this scenario holds no file",
            where="params.yaml: source.label_from: pattern",
            expected="column, file or directory",
        )
    others = [name for name in schema.names if name not in (*binary, target) and not is_optional(schema.field(name))]
    return binary[0], [_LABEL, *others]


@lru_cache(maxsize=8)
def _pattern(pattern: str) -> re.Pattern[str]:
    """Names to groups: the label is as long as can be, another part holds no separator.

    Raises
    ------
    ConfigError
        When a name stands in it twice.
    """
    parts = re.split(r"\{([a-z_]+)\}", pattern)
    text = "".join(
        re.escape(part) if index % 2 == 0 else f"(?P<{part}>[^/]+)" if part == _LABEL else f"(?P<{part}>[^/_]+)"
        for index, part in enumerate(parts)
    )
    try:
        return re.compile(f"/{text}$")
    except re.error as error:
        raise ConfigError(
            f"no pattern of names: {error}", where=f"params.yaml: source.pattern: {pattern}", expected="each name once"
        ) from None
