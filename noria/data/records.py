"""Records of files, in blocks (of CSV, JSONL, Parquet and text here); what is no record is set aside, never dropped."""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from noria.config import SourceConfig
from noria.data.bitexts import read_aligned, read_gettext, read_tmx, read_xliff
from noria.data.blocks import Block, Rejected, Wanted
from noria.data.document_files import read_document
from noria.data.idx import read_idx
from noria.data.lines import LongLine, header_names, is_ascii_compatible, read_lines
from noria.data.media import is_optional, read_media, read_named_media, with_files
from noria.data.sources import SourceFile
from noria.data.squad import is_squad, read_squad
from noria.errors import ConfigError, SourceError

_DELIMITERS = ",\t;|"
_SHOWN_CHARS = 500
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
"""What names hold that were read in another encoding than theirs."""
_ARRAY_START = re.compile(r"\s*\[\s*(?:\{|$)")
_ENCODING_ADVICE = (
    "the names are in another encoding than `source.encoding` says: Excel in Chinese writes gb18030; "
    "UTF-16 must be converted (iconv -f UTF-16 -t UTF-8 OLD > NEW)"
)
_PARQUET_ROWS = 10_000


def read_records(
    file: SourceFile, *, source: SourceConfig, schema: pa.Schema, target: str
) -> Iterator[Block | Rejected]:
    """Yield what is in one file, in order, in bounded memory.

    Raises
    ------
    SourceError
        When the file can't be read or lacks a column.
    ConfigError
        When `source` asks for what this format can't give.
    """
    _check_encoding(source.encoding)
    if file.format == "idx":
        yield from read_idx(file, source=source, schema=schema, target=target)
        return
    if file.format == "document" or (file.format == "media" and source.label_from == "pattern"):
        read = read_document if file.format == "document" else read_named_media
        yield read(file, source=source, schema=schema, target=target)
        return
    wanted = _wanted(file, source=source, schema=schema, target=target)
    readers = {
        "csv": _read_csv,
        "jsonl": _read_jsonl,
        "parquet": _read_parquet,
        "text": _read_text,
        "gettext": read_gettext,
        "tmx": read_tmx,
        "xliff": read_xliff,
        "aligned": read_aligned,
        "atomic": _read_csv,
        "squad": read_squad,
        "media": read_media,
    }
    format = "squad" if file.format == "jsonl" and is_squad(file, wanted) else file.format
    parts = readers[format](file, source, wanted)
    yield from with_files(parts, file, source=source, schema=schema)


def _wanted(file: SourceFile, *, source: SourceConfig, schema: pa.Schema, target: str) -> Wanted:
    unknown = sorted(source.columns.keys() - set(schema.names))
    if unknown:
        near = difflib.get_close_matches(unknown[0], schema.names, n=1)
        raise ConfigError(
            f"the scenario has no column `{unknown[0]}`",
            where="params.yaml: source.columns",
            expected=", ".join(schema.names),
            next_step=f"did you mean `{near[0]}`?" if near else "map the scenario's column to the source's",
        )
    columns = {name: source.columns.get(name, name) for name in schema.names}
    optional = frozenset(
        name for name in schema.names if is_optional(schema.field(name)) and name not in source.columns
    )
    if source.label_from == "column":
        return Wanted(columns, None, optional)
    del columns[target]
    return Wanted(columns, (target, file.stem if source.label_from == "file" else file.directory), optional)


def _check_encoding(encoding: str) -> None:
    try:
        usable = is_ascii_compatible(encoding)
    except LookupError:
        usable = False
    if not usable:
        raise ConfigError(
            f"`{encoding}` is no encoding whose lines can be told apart",
            where="params.yaml: source.encoding",
            expected="utf-8, gb18030, big5, latin-1 … (not utf-16 or utf-32)",
            next_step="convert the files: iconv -f UTF-16 -t UTF-8 OLD > NEW",
        )


def _read_text(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    names, wanted = tuple(wanted.columns), wanted.among([])
    if len(wanted.columns) != 1:
        raise ConfigError(
            f"a line of text is one column, and a row of this scenario has {', '.join(names)}",
            where=f"params.yaml: source.format: text ({file.name})",
            expected="`source.label_from: file` (neg.txt, pos.txt) or `directory` (neg/…, pos/…)",
            next_step="set `source.label_from`, or give the data as CSV or JSONL",
        )
    (column,) = wanted.columns
    with file.open() as stream:
        for part in read_lines(stream, encoding=source.encoding, max_bytes=source.max_row_bytes):
            if isinstance(part, LongLine):
                yield _too_long(file, part, source)
                continue
            numbers: Sequence[int] = range(part.first, part.first + len(part.texts))
            texts = part.texts
            if not all(map(str.strip, texts)):  # blank lines hold nothing
                kept = [(n, text) for n, text in zip(numbers, texts, strict=True) if text.strip()]
                numbers, texts = [n for n, _ in kept], [text for _, text in kept]
            yield Block(file.name, numbers, wanted.with_label({column: texts}, len(texts)))


def _read_jsonl(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    first = True
    with file.open() as stream:
        for part in read_lines(stream, encoding=source.encoding, max_bytes=source.max_row_bytes):
            if isinstance(part, LongLine):
                yield _too_long(file, part, source)
                continue
            objects: list[dict[str, object]] = []
            numbers: list[int] = []
            for number, line in enumerate(part.texts, part.first):
                if not line.strip():
                    continue
                if first and not objects and _ARRAY_START.match(line):
                    raise _array(file)
                parsed = _parse_object(line)
                if isinstance(parsed, str):
                    yield Rejected(f"{file.name}:{number}", {"raw": line}, "malformed_json", parsed)
                else:
                    objects.append(parsed)
                    numbers.append(number)
            if first and objects:
                first = False
                _check_columns(file, wanted, sorted({key for parsed in objects for key in parsed}))
            yield from _complete_objects(file, wanted, numbers, objects)


def _array(file: SourceFile) -> SourceError:
    return SourceError(
        "a JSON array, which can only be read as a whole",
        where=file.path,
        expected="JSON Lines: one object a line",
        next_step="jq -c '.[]' OLD.json > NEW.jsonl",
    )


def _parse_object(line: str) -> dict[str, object] | str:
    """The object, or why the line is none."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return parsed if isinstance(parsed, dict) else f"JSON, but not an object: {type(parsed).__name__}"


def _complete_objects(
    file: SourceFile, wanted: Wanted, numbers: list[int], objects: list[dict[str, object]]
) -> Iterator[Block | Rejected]:
    keys = tuple(key for name, key in wanted.columns.items() if name not in wanted.optional)
    lacking = [any(key not in parsed for key in keys) for parsed in objects]
    for number, parsed, lacks in zip(numbers, objects, lacking, strict=True):
        if lacks:
            missing = ", ".join(f"`{key}`" for key in keys if key not in parsed)
            yield Rejected(f"{file.name}:{number}", parsed, "missing_column", f"the object has no {missing}")
    if any(lacking):
        numbers = [n for n, lacks in zip(numbers, lacking, strict=True) if not lacks]
        objects = [o for o, lacks in zip(objects, lacking, strict=True) if not lacks]
    columns = {name: [parsed.get(key, "") for parsed in objects] for name, key in wanted.columns.items()}
    yield Block(file.name, numbers, wanted.with_label(columns, len(objects)))


def _read_csv(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    """CSV with a header (RFC 4180; comma, tab, semicolon or bar, whichever the header shows).

    A quote that is never closed costs its own line and no other: reading goes on at the next. Atomic
    files (RecBole's: tabs, no quotes, a header of `name:type`) are read as such, without the types.
    """
    csv.field_size_limit(max(csv.field_size_limit(), source.max_row_bytes))  # the module's limit is per process
    reader = _CsvReader(file, source, wanted)
    with file.open() as stream:
        for part in read_lines(stream, encoding=source.encoding, max_bytes=source.max_row_bytes):
            if isinstance(part, LongLine):
                yield from reader.feed([], first=part.number, last=True)
                yield _too_long(file, part, source)
            else:
                yield from reader.feed(part.texts, first=part.first, last=False)
        yield from reader.feed([], first=0, last=True)


class _CsvReader:
    """Parses blocks of lines; keeps the lines of a record that is still open."""

    def __init__(self, file: SourceFile, source: SourceConfig, wanted: Wanted) -> None:
        self.file = file
        self.max_bytes = source.max_row_bytes
        self.wanted = wanted
        self.header: list[str] = []
        self.delimiter = ","
        self._is_atomic = file.format == "atomic"
        self._quoting: Literal[0, 3] = csv.QUOTE_NONE if self._is_atomic else csv.QUOTE_MINIMAL
        self._open: list[str] = []
        self._first = 1

    def feed(self, texts: list[str], *, first: int, last: bool) -> Iterator[Block | Rejected]:
        """Parse what was kept and `texts`, of which line `first` is the first; `last` closes an open record."""
        lines = self._open + texts
        number = self._first if self._open else first
        self._open = []
        if not self.header:
            while lines and not lines[0].strip():
                lines, number = lines[1:], number + 1
            if not lines:
                return
            self._read_header(lines[0])
            lines, number = lines[1:], number + 1
        start = 0
        while start < len(lines):
            records, numbers, end, fault = self._parse(lines, start)
            yield from self._complete(records, [number + n for n in numbers])
            start = end
            if fault is None:
                break
            open_bytes = sum(map(len, lines[start:]))
            if fault == "unexpected end of data" and not last and open_bytes <= self.max_bytes:
                self._open, self._first = lines[start:], number + start
                break
            reason = f"not CSV: {fault} (a quote that is not closed, or text after a closing quote)"
            yield Rejected(f"{self.file.name}:{number + start}", {"raw": lines[start]}, "malformed_csv", reason)
            start += 1

    def _parse(self, lines: list[str], start: int) -> tuple[list[list[str]], list[int], int, str | None]:
        """(records, index of each one's first line, where parsing stopped, why) from `lines[start:]`."""
        records: list[list[str]] = []
        numbers: list[int] = []
        end = start
        texts = (line + "\n" for line in lines[start:])
        reader = csv.reader(texts, delimiter=self.delimiter, quoting=self._quoting, strict=True)
        try:
            for record in reader:
                if record:
                    records.append(record)
                    numbers.append(end)
                end = start + reader.line_num
        except csv.Error as error:
            return records, numbers, end, str(error)
        return records, numbers, end, None

    def _read_header(self, line: str) -> None:
        def columns_by(delimiter: str) -> list[str]:
            names = header_names(line, delimiter=delimiter, quoting=self._quoting, where=self.file.path)
            return [name.rpartition(":")[0] or name for name in names] if self._is_atomic else names

        keys = set(self.wanted.columns.values())
        self.delimiter = max(_DELIMITERS, key=lambda delimiter: len(keys & set(columns_by(delimiter))))
        self.header = columns_by(self.delimiter)
        self.wanted = self.wanted.among(self.header)
        _check_columns(self.file, self.wanted, self.header)

    def _complete(self, records: list[list[str]], numbers: list[int]) -> Iterator[Block | Rejected]:
        width = len(self.header)
        if any(len(record) != width for record in records):
            for number, record in zip(numbers, records, strict=True):
                if len(record) != width:
                    reason = f"{len(record)} fields, and the header has {width}: {', '.join(self.header)}"
                    yield Rejected(f"{self.file.name}:{number}", {"fields": record}, "field_count", reason)
            kept = [(n, r) for n, r in zip(numbers, records, strict=True) if len(r) == width]
            numbers, records = [n for n, _ in kept], [r for _, r in kept]
        columns = {name: self._values(key, records) for name, key in self.wanted.columns.items()}
        yield Block(self.file.name, numbers, self.wanted.with_label(columns, len(records)))

    def _values(self, key: str, records: list[list[str]]) -> Sequence[object]:
        """The fields of a column, or of each record all fields of the columns that a pattern names."""
        places = [self.header.index(name) for name in _matching(key, self.header)]
        if "*" not in key:
            return [record[places[0]] for record in records]
        return [[record[place] for place in places] for record in records]


def _matching(key: str, names: Sequence[str]) -> list[str]:
    """The columns of that name, or all that a pattern such as `pixel*` names, in their order."""
    return [name for name in names if (fnmatchcase(name, key) if "*" in key else name == key)]


def _read_parquet(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    number = 1
    with file.open() as stream:
        try:
            parquet = pq.ParquetFile(stream)
            wanted = wanted.among(parquet.schema_arrow.names)
            _check_columns(file, wanted, parquet.schema_arrow.names)
            keys = {name: _matching(key, parquet.schema_arrow.names) for name, key in wanted.columns.items()}
            for batch in parquet.iter_batches(_PARQUET_ROWS, columns=[key for found in keys.values() for key in found]):
                read = {name: [_values(batch.column(key)) for key in found] for name, found in keys.items()}
                columns = {
                    name: list(map(list, zip(*read[name], strict=True))) if "*" in key else read[name][0]
                    for name, key in wanted.columns.items()
                }
                numbers = range(number, number + batch.num_rows)
                number += batch.num_rows
                yield from _short_values(file, source, numbers, wanted.with_label(columns, batch.num_rows))
        except pa.ArrowException as error:
            raise SourceError(
                f"not a Parquet file that can be read: {error}",
                where=file.path,
                next_step="write the file again; `source.format` says what files without an ending are",
            ) from error


def _values(column: pa.Array) -> list[object]:
    """Python values; text that is not UTF-8 keeps its bytes as lone surrogates."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        raw = column.view(pa.binary() if pa.types.is_string(column.type) else pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


def _short_values(
    file: SourceFile, source: SourceConfig, numbers: Sequence[int], columns: Mapping[str, Sequence[object]]
) -> Iterator[Block | Rejected]:
    limit = source.max_row_bytes
    long = {
        index
        for values in columns.values()
        for index, value in enumerate(values)
        if isinstance(value, str | bytes) and len(value) > limit // 4 and _num_bytes(value) > limit
    }
    for index in sorted(long):
        head = {name: _head(values[index]) for name, values in columns.items()}
        size = sum(_num_bytes(values[index]) for values in columns.values())
        yield _oversized(f"{file.name}:{numbers[index]}", head, size, limit)
    if long:
        keep = [index for index in range(len(numbers)) if index not in long]
        numbers = [numbers[index] for index in keep]
        columns = {name: [values[index] for index in keep] for name, values in columns.items()}
    yield Block(file.name, numbers, columns)


def _num_bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    return len(value) if isinstance(value, bytes) else 8


def _head(value: object) -> object:
    return value[:1_000] if isinstance(value, str | bytes) else value


def _too_long(file: SourceFile, line: LongLine, source: SourceConfig) -> Rejected:
    return _oversized(f"{file.name}:{line.number}", {"raw": line.head}, line.num_bytes, source.max_row_bytes)


def _oversized(origin: str, head: Mapping[str, object], num_bytes: int, limit: int) -> Rejected:
    payload = {**head, "truncated": True, "num_bytes": num_bytes}
    reason = f"{num_bytes:,} bytes, and source.max_row_bytes is {limit:,}; only its beginning is kept here"
    return Rejected(origin, payload, "too_long", reason)


def _check_columns(file: SourceFile, wanted: Wanted, found: Sequence[str]) -> None:
    for name, key in wanted.columns.items():
        if not _matching(key, found) and name not in wanted.optional:
            near = difflib.get_close_matches(key, found, n=1, cutoff=0.4)
            guess = f"did you mean `{near[0]}`? " if near else ""
            advice = f"{guess}`source.columns: {{{name}: {near[0] if near else 'ITS NAME'}}}` in params.yaml"
            raise SourceError(
                f"the source has no column `{key}`",
                where=f"{file.path}: {_shown(found)}",
                expected=", ".join(wanted.columns.values()),
                next_step=_ENCODING_ADVICE if _NOT_TEXT.search("".join(found)) else advice,
            )


def _shown(names: Sequence[str]) -> str:
    """Names as a terminal can show them, not endlessly many."""
    text = ", ".join(names)
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:_SHOWN_CHARS])
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
