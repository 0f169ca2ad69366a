"""Lines of a byte stream in bounded memory, whatever their length or bytes; the names in the first one of a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from noria.errors import SourceError

_CHUNK_BYTES = 1 << 20
_KEPT_BYTES = 4_096
_UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """Consecutive lines without their line ends.

    Bytes that are not valid in the encoding are kept as lone surrogates (`surrogateescape`), so that
    `text.encode(encoding, "surrogateescape")` gives the bytes back.
    """

    first: int
    """1-based number of the first line."""
    texts: list[str]


@dataclass(frozen=True)
class LongLine:
    """A line that was too long to be read: its beginning, and its true size."""

    number: int
    head: str
    num_bytes: int


def is_ascii_compatible(encoding: str) -> bool:
    """Whether a newline is the byte 0x0A and nothing else in this encoding.

    Raises
    ------
    LookupError
        When there is no such encoding.
    """
    return "\n".encode(encoding) == b"\n"


def read_lines(file: BinaryIO, *, encoding: str, max_bytes: int) -> Iterator[Lines | LongLine]:
    """Yield the lines of `file` in order, about a megabyte at a time.

    At most `max_bytes` and one chunk are held. A UTF-8 byte order mark is dropped.
    """
    number = 1
    rest = b""
    first_chunk = True
    while chunk := file.read(_CHUNK_BYTES):
        if first_chunk:
            first_chunk, chunk = False, chunk.removeprefix(_UTF8_BOM)
        raw = rest + chunk
        end = raw.rfind(b"\n")
        if end < 0 and len(raw) > max_bytes:
            head, num_bytes, rest = _skip_line(file, raw)
            yield LongLine(number, head.decode(encoding, "surrogateescape"), num_bytes)
            number += 1
            continue
        if end >= 0:
            rest = raw[end + 1 :]
            for part in _split(raw[:end], number, encoding=encoding, max_bytes=max_bytes):
                yield part
                number += len(part.texts) if isinstance(part, Lines) else 1
        else:
            rest = raw
    if rest:
        yield from _split(rest.removesuffix(b"\n"), number, encoding=encoding, max_bytes=max_bytes)


def _skip_line(file: BinaryIO, start: bytes) -> tuple[bytes, int, bytes]:
    """Read to the end of a line that began with `start`: (its head, its bytes, what was read after it)."""
    num_bytes = len(start)
    while chunk := file.read(_CHUNK_BYTES):
        end = chunk.find(b"\n")
        if end >= 0:
            return start[:_KEPT_BYTES], num_bytes + end, chunk[end + 1 :]
        num_bytes += len(chunk)
    return start[:_KEPT_BYTES], num_bytes, b""


def _split(raw: bytes, number: int, *, encoding: str, max_bytes: int) -> Iterator[Lines | LongLine]:
    """The lines of `raw`, the first of them being line `number`."""
    lines = raw.split(b"\n")
    if len(raw) <= max_bytes or max(map(len, lines)) <= max_bytes:
        yield Lines(number, _decode(raw, lines, encoding))
        return
    start = 0
    for index, line in enumerate(lines):
        if len(line) > max_bytes:
            if index > start:
                short = lines[start:index]
                yield Lines(number + start, _decode(b"\n".join(short), short, encoding))
            yield LongLine(number + index, line[:_KEPT_BYTES].decode(encoding, "surrogateescape"), len(line))
            start = index + 1
    if start < len(lines):
        short = lines[start:]
        yield Lines(number + start, _decode(b"\n".join(short), short, encoding))


def _decode(raw: bytes, lines: list[bytes], encoding: str) -> list[str]:
    try:
        texts = raw.decode(encoding).split("\n")
    except UnicodeDecodeError:  # line by line, so that a broken character can't swallow a line end
        texts = [line.decode(encoding, "surrogateescape") for line in lines]
    return [text.removesuffix("\r") for text in texts] if b"\r" in raw else texts


def header_names(line: str, *, delimiter: str, quoting: Literal[0, 3], where: str) -> list[str]:
    """The names of the columns that the first line of a table has.

    Raises
    ------
    SourceError
        When it is no CSV: text of another encoding has lone carriage returns in it.
    """
    try:
        return next(csv.reader([line], delimiter=delimiter, quoting=quoting))
    except csv.Error as error:
        raise SourceError(
            f"the header is not CSV: {error}",
            where=f"{where}: {line[:60]!r}",
            expected="names of columns, in the encoding that `source.encoding` names",
            next_step="set `source.encoding`, or mend the file",
        ) from error
