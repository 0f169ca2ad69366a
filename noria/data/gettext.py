"""Pairs from gettext catalogs: `.po` (text) and `.mo` (compiled).

The formats: https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html and .../MO-Files.html.
An entry is a message id, its translation or one for each plural form, a context, and flags. Obsolete
entries (`#~`) are comments.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from noria.errors import SourceError

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_LINE = re.compile(r'^(?:(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d{1,3})\])?\s*)?"(.*)"$')
_CHARSET = re.compile(r"charset=([\w.-]+)", re.IGNORECASE)
_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}


@dataclass
class Entry:
    """One message.

    Attributes
    ----------
    number:
        Line of its `msgid`, or its place in a compiled catalog; from 1.
    source, plural:
        The message id, and that of the plural; "" without one.
    targets:
        Translations, by plural form.
    is_fuzzy:
        A translator is to look at it again.
    fault:
        A line that is no part of a catalog, and where; "" without one.
    """

    number: int
    source: str = ""
    plural: str = ""
    targets: dict[int, str] = field(default_factory=dict)
    is_fuzzy: bool = False
    fault: str = ""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(source, translation) of the singular and of the plural, as far as there are any.

        A language of one form translates both by it; of several, the first is the singular's, and
        the last, which stands for most numbers, the plural's.
        """
        if self.source:
            yield self.source, self.targets.get(0, "")
        if self.plural:
            yield self.plural, self.targets.get(max(self.targets, default=0), "")


def read_po(text: str) -> Iterator[Entry]:
    """The entries of a catalog in order, its header among them."""
    entry, key, flags = Entry(0), "", set[str]()
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        match = _LINE.match(line)
        begins = line.startswith("#") or (match is not None and match[1] in ("msgctxt", "msgid"))
        if (not line or begins) and (entry.targets or entry.fault):
            yield entry
            entry, key, flags = Entry(0), "", set()
        if line.startswith("#,"):
            flags |= {flag.strip() for flag in line[2:].split(",")}
            entry.is_fuzzy = "fuzzy" in flags
        if match is None:
            if line and not line.startswith("#"):
                entry.fault = entry.fault or f"line {number} is neither a string nor a comment: {line[:200]}"
                entry.number = entry.number or number
            continue
        name, form, string = match.groups()
        key = f"{name}[{form or 0}]" if name == "msgstr" else name or key
        _append(entry, key, _unescape(string), number)
    if entry.targets or entry.source or entry.fault:
        yield entry


def _append(entry: Entry, key: str, string: str, number: int) -> None:
    match key:
        case "msgid":
            entry.source += string
            entry.number = entry.number or number
        case "msgid_plural":
            entry.plural += string
        case "msgctxt":
            pass  # where the message stands, which is no part of it
        case _ if key.startswith("msgstr["):
            form = int(key[7:-1])
            entry.targets[form] = entry.targets.get(form, "") + string
        case _:
            entry.fault = entry.fault or f"line {number} is a string that belongs to no message"
            entry.number = entry.number or number


def read_mo(raw: bytes, *, name: str, encoding: str) -> Iterator[Entry]:
    """The entries of a compiled catalog in order, its header among them.

    Text is in the charset that the header names, else in `encoding`; bytes that are not valid in it
    stay as lone surrogates.

    Raises
    ------
    SourceError
        When it is none, or is cut off.
    """
    order = _MAGIC.get(raw[:4])
    try:
        if order is None:
            raise ValueError("it does not begin as one")
        num, sources, targets = struct.unpack_from(f"{order}III", raw, 8)
        if num > len(raw) // 16:
            raise ValueError(f"{num} messages in {len(raw)} bytes")
        pairs = [tuple(_string(raw, table + 8 * i, order) for table in (sources, targets)) for i in range(num)]
    except (ValueError, struct.error) as error:
        raise SourceError(
            f"not a compiled gettext catalog: {error}",
            where=name,
            expected="a whole .mo file",
            next_step="compile it again: msgfmt -o NEW.mo OLD.po",
        ) from error
    charset = next((charset_of(str(target, "latin-1")) for source, target in pairs if not source), None) or encoding
    for number, (source, target) in enumerate(pairs, 1):
        singular, _, plural = decode(source.rpartition(b"\x04")[2], charset).partition("\x00")
        forms = decode(target, charset).split("\x00")
        yield Entry(number, singular, plural.split("\x00")[0], dict(enumerate(forms)))


def charset_of(header: str) -> str | None:
    """The charset that a catalog's header names, if Python has it."""
    match = _CHARSET.search(header)
    if match is None:
        return None
    try:
        "".encode(match[1])
    except LookupError:  # a template's CHARSET
        return None
    return match[1]


def decode(raw: bytes, charset: str) -> str:
    """Text; bytes that are not valid stay as lone surrogates."""
    return raw.decode(charset, "surrogateescape")


def _string(raw: bytes, place: int, order: str) -> bytes:
    length, offset = struct.unpack_from(f"{order}II", raw, place)
    if offset + length > len(raw):
        raise ValueError(f"a message ends behind the file's {len(raw)} bytes")
    return raw[offset : offset + length]


def _unescape(string: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), string)
