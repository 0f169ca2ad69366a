"""Rows that hold a media file: one file a row, described by its name, or files that the rows of a table name.

A row holds the bytes themselves, so shards say everything and a file that changes later changes no row.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pyarrow as pa

from noria.config import SourceConfig
from noria.data.blocks import Block, Rejected, Wanted
from noria.data.sources import SourceFile
from noria.errors import ConfigError, SourceError

OPTIONAL: Mapping[bytes | str, bytes | str] = {"optional": "true"}
"""Metadata of a column that a source may lack, or whose value a row may lack; it is empty then."""
_LABEL = "label"
_HEAD_BYTES = 1_000


def binary_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns that hold bytes."""
    return tuple(field.name for field in schema if pa.types.is_binary(field.type))


def is_optional(field: pa.Field) -> bool:
    """Whether a source may lack this column."""
    return bool(field.metadata and b"optional" in field.metadata)


def read_media(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    """The one row of a file whose label is its own name or its folder's.

    Raises
    ------
    ConfigError
        When a row needs more than that.
    """
    needed = wanted.among([]).columns
    if len(needed) != 1:
        raise ConfigError(
            f"a file is one column, and a row of this scenario has {', '.join(wanted.columns)}",
            where=f"params.yaml: source.format: media ({file.name})",
            expected="`source.label_from: directory` (cat/1.png, dog/7.png) where a row is a file and its label",
            next_step="set `source.label_from: directory` or `pattern`, or write a table that names the files",
        )
    (column,) = needed
    payload = _load(file, origin=f"{file.name}:1", values=_first(wanted.with_label({}, 1)), source=source)
    yield payload if isinstance(payload, Rejected) else Block(file.name, [1], wanted.with_label({column: [payload]}, 1))


def _first(columns: Mapping[str, Sequence[object]]) -> Mapping[str, object]:
    return {name: values[0] for name, values in columns.items()}


def read_named_media(file: SourceFile, *, source: SourceConfig, schema: pa.Schema, target: str) -> Block | Rejected:
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
    if not payload and is_optional(schema.field(column)):
        return _empty(f"{file.name}:1", values)
    return Block(file.name, [1], {column: [payload], **{name: [value] for name, value in values.items()}})


def with_files(
    parts: Iterable[Block | Rejected], file: SourceFile, *, source: SourceConfig, schema: pa.Schema
) -> Iterator[Block | Rejected]:
    """The records of a table, with the bytes of the files that they name; a row whose file can't be had is rejected.

    What is missing from a row and may be is empty: no bytes, no characters.
    """
    columns = binary_columns(schema)
    may_lack = {name for name in schema.names if is_optional(schema.field(name))}
    for part in parts:
        if isinstance(part, Rejected) or not columns:
            yield part
            continue
        column = columns[0]
        for index, number in enumerate(part.numbers):  # row by row: files are large
            values = {name: rows[index] for name, rows in part.columns.items()}
            values |= {name: "" for name in may_lack if values[name] is None}
            yield _with_file(
                file,
                f"{part.file}:{number}",
                number,
                values,
                source=source,
                column=column,
                may_lack=column in may_lack,
            )


def _with_file(
    file: SourceFile,
    origin: str,
    number: int | str,
    values: Mapping[str, object],
    *,
    source: SourceConfig,
    column: str,
    may_lack: bool,
) -> Block | Rejected:
    named = values[column]
    if isinstance(named, Mapping):  # how Hugging Face writes images and recordings into Parquet
        named = named.get("bytes") or named.get("path")
    if may_lack and (named is None or named in ("", b"")):
        named = b""
    elif isinstance(named, list):
        named = _image_of(named, origin=origin, values=values)
    elif isinstance(named, bytes):
        named = _limited(named, len(named), origin=origin, values={**values, column: ""}, source=source)
    elif isinstance(named, str):
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
        if may_lack and named == b"":
            return _empty(origin, values)
    if isinstance(named, Rejected):
        return named
    return Block(file.name, [number], {name: [named if name == column else v] for name, v in values.items()})


def _empty(origin: str, values: Mapping[str, object]) -> Rejected:
    """A file of no bytes is no file that was left out."""
    return Rejected(origin, values, "empty_file", "the file that it names is empty")


def _load(file: SourceFile, *, origin: str, values: Mapping[str, object], source: SourceConfig) -> bytes | Rejected:
    values = {**values, "file": file.name}
    try:
        payload, size = file.read_bytes(most=source.max_row_bytes + 1)
    except SourceError as error:
        return Rejected(origin, values, "missing_file", error.what)
    return _limited(payload, size, origin=origin, values=values, source=source)


def _limited(
    payload: bytes, size: int, *, origin: str, values: Mapping[str, object], source: SourceConfig
) -> bytes | Rejected:
    limit = source.max_row_bytes
    if size > limit or len(payload) > limit:
        head = {**values, "head": payload[:_HEAD_BYTES], "num_bytes": size}
        return Rejected(origin, head, "too_long", f"{size:,} bytes, and source.max_row_bytes is {limit:,}")
    return payload


def _image_of(values_P: list[object], *, origin: str, values: Mapping[str, object]) -> bytes | Rejected:
    """The PNG of a square grey image, out of the numbers of its pixels, line by line."""
    import numpy as np

    from noria.data.pixels import encode_png

    side = math.isqrt(len(values_P))
    try:
        numbers = np.array([float(str(value)) for value in values_P])
    except ValueError as error:
        return Rejected(origin, values, "bad_pixels", f"a pixel that is no number: {error}")
    if not side or side**2 != len(values_P):
        return Rejected(origin, values, "bad_pixels", f"{len(values_P):,} pixels are no square image")
    if not ((numbers >= 0) & (numbers <= 255)).all():
        return Rejected(origin, values, "bad_pixels", "pixels that are not between 0 and 255")
    return encode_png(numbers.round().astype(np.uint8).reshape(side, side, 1))


def to_base64(payload: object) -> str:
    """Bytes as JSON can hold them."""
    assert isinstance(payload, bytes)
    return base64.b64encode(payload).decode("ascii")


def from_base64(text: str) -> bytes:
    """The bytes again.

    Raises
    ------
    ValueError
        When they are none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error, or letters beyond ASCII
        raise ValueError(f"not base64: {error}") from None


def file_as_base64(path: str, *, what: str, most: int) -> str:
    """The bytes of a file that a person names, one more than `most` at most.

    Raises
    ------
    ValueError
        When it can't be read.
    """
    try:
        with Path(path).open("rb") as file:
            return to_base64(file.read(most + 1))
    except OSError as error:
        raise ValueError(f"the {what} can't be read: {error.strerror}: {path[:200]}") from None
    except ValueError as error:  # a name with a zero in it
        raise ValueError(f"the {what} can't be read: {error}: {path[:200]!r}") from None


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
