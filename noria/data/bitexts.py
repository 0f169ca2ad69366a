"""Pairs of a text and its translation: gettext catalogs, TMX, XLIFF, and two files of equally many lines.

XML is parsed with entities refused: one that expands, or reads another file, can't do so here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, BinaryIO

from noria.config import SourceConfig
from noria.data.blocks import Block, Rejected, Wanted
from noria.data.gettext import Entry, charset_of, decode, read_mo, read_po
from noria.data.lines import Lines, LongLine, read_lines
from noria.data.sources import SourceFile, is_language
from noria.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_BLOCK_ROWS = 5_000
_HEAD_BYTES = 65_536
_COMPILED = (b"\xde\x12\x04\x95", b"\x95\x04\x12\xde")
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_MOST_CATALOG_BYTES = 256 << 20

Found = tuple[int, str, str] | Rejected
"""(number, source, target), or what is no pair."""


def read_gettext(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    """The translated entries of a catalog; what is fuzzy or not translated is no pair yet."""
    yield from _blocks(file, source, wanted, _catalog_pairs(file, source))


def read_tmx(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    """The units of a translation memory (TMX 1.4)."""
    yield from _blocks(file, source, wanted, _xml_pairs(file, ("tu",), lambda unit: _tmx_pair(unit, source)))


def read_xliff(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    """The units of XLIFF 1.2 (`trans-unit`) and 2 (`segment`)."""
    yield from _blocks(file, source, wanted, _xml_pairs(file, ("trans-unit", "segment"), _xliff_pair))


def read_aligned(file: SourceFile, source: SourceConfig, wanted: Wanted) -> Iterator[Block | Rejected]:
    """Line by line with the file beside it that ends in the target's language."""
    yield from _blocks(file, source, wanted, _line_pairs(file, partner_of(file, source), source))


def _blocks(
    file: SourceFile, source: SourceConfig, wanted: Wanted, found: Iterator[Found]
) -> Iterator[Block | Rejected]:
    if wanted.columns.keys() != {"source", "target"}:
        raise ConfigError(
            f"{file.format} files hold pairs of `source` and `target`, and {', '.join(wanted.columns)} are needed",
            where=f"params.yaml: source ({file.name})",
            expected="the scenario `translation`, without `source.carry` and `source.label_from`",
            next_step="give the data as CSV, JSONL or Parquet",
        )
    while part := list(islice(found, _BLOCK_ROWS)):
        rows = []
        for each in part:
            if isinstance(each, Rejected):
                yield each
            elif (size := max(_num_bytes(text) for text in each[1:])) > source.max_row_bytes:
                head = {"source": each[1][:1_000], "target": each[2][:1_000], "truncated": True, "num_bytes": size}
                reason = f"{size:,} bytes, and source.max_row_bytes is {source.max_row_bytes:,}; its beginning is here"
                yield Rejected(f"{file.name}:{each[0]}", head, "too_long", reason)
            else:
                rows.append(each)
        columns = {"source": [row[1] for row in rows], "target": [row[2] for row in rows]}
        yield Block(file.name, [row[0] for row in rows], columns)


def _num_bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _catalog_pairs(file: SourceFile, source: SourceConfig) -> Iterator[Found]:
    with file.open() as stream:
        raw = stream.read(_MOST_CATALOG_BYTES)
    entries: Iterable[Entry]
    if not raw.startswith(_COMPILED) and not file.path.lower().endswith(".mo"):
        charset = charset_of(raw[:_HEAD_BYTES].decode("latin-1")) or source.encoding
        entries = read_po(decode(raw.removeprefix(b"\xef\xbb\xbf"), charset))
    else:
        entries = read_mo(raw, name=file.path, encoding=source.encoding)
    for entry in entries:
        where = f"{file.name}:{entry.number}"
        if entry.fault:
            yield Rejected(where, {"source": entry.source, "targets": str(entry.targets)}, "malformed_po", entry.fault)
            continue
        for text, translation in entry.pairs():
            payload = {"source": text, "target": translation}
            if not translation:
                yield Rejected(where, payload, "untranslated", "the catalog has no translation of it yet")
            elif entry.is_fuzzy:
                yield Rejected(where, payload, "fuzzy", "marked as fuzzy: a translator is to look at it again")
            else:
                yield entry.number, text, translation


def _xml_pairs(
    file: SourceFile, units: tuple[str, ...], pair_of: Callable[[Element], tuple[str, str] | str]
) -> Iterator[Found]:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    number = 0
    try:
        with file.open() as stream:
            path: list[Element] = []
            for event, element in iterparse(stream, events=("start", "end")):
                if event == "start":
                    path.append(element)
                    continue
                path.pop()
                if _name(element) in units:
                    number += 1
                    found = pair_of(element)
                    if isinstance(found, str):
                        yield Rejected(f"{file.name}:{number}", {"raw": "".join(element.itertext())}, "no_pair", found)
                    else:
                        yield number, *found
                    element.clear()
                    if path:
                        path[-1].remove(element)  # or memory would hold the whole file
    except ParseError as error:
        reason = f"not XML from here on: {error}"
        yield Rejected(f"{file.name}:{number + 1}", {"raw": file.path}, "malformed_xml", reason)
    except DefusedXmlException as error:
        reason = f"it declares entities, which are not expanded here: {error}"
        yield Rejected(f"{file.name}:{number + 1}", {"raw": file.path}, "unsafe_xml", reason)


def _tmx_pair(unit: Element, source: SourceConfig) -> tuple[str, str] | str:
    texts: list[tuple[str, str]] = []
    for variant in unit:
        if _name(variant) == "tuv":
            tag = variant.get(_LANG) or variant.get("lang") or ""
            texts += [(tag, "".join(part.itertext())) for part in variant if _name(part) == "seg"]
    languages = source.languages
    ours = [text for tag, text in texts if is_language(tag, languages.source)] if languages.source else []
    theirs = [text for tag, text in texts if is_language(tag, languages.target)] if languages.target else []
    if not languages.source and not languages.target and len(texts) == 2:
        return texts[0][1], texts[1][1]
    if not ours or not theirs:
        tags = ", ".join(tag for tag, _ in texts)
        return f"`source.languages` are {languages.source or '?'} and {languages.target or '?'}, this unit's {tags}"
    return ours[0], theirs[0]


def _xliff_pair(unit: Element) -> tuple[str, str] | str:
    texts = {_name(part): _inline(part) for part in unit if _name(part) in ("source", "target")}
    if not texts.get("source") or not texts.get("target"):
        return "the unit has no source or no target"
    return texts["source"], texts["target"]


def _inline(element: Element) -> str:
    """The text of an element; what stands for something else (`<x id="1"/>`) as a placeholder, `{x1}`."""
    text = element.text or ""
    for part in element:
        inner = _inline(part)
        text += inner if inner else f"{{{_name(part)}{part.get('id', '')}}}"
        text += part.tail or ""
    return text


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def partner_of(file: SourceFile, source: SourceConfig) -> SourceFile:
    """The file that is read line by line beside this one.

    Raises
    ------
    ConfigError
        When the source does not say of which languages they are.
    """
    languages = source.languages
    if not languages.source or not languages.target:
        raise ConfigError(
            "two aligned files are told apart by their languages",
            where=f"params.yaml: source.languages ({file.name})",
            expected="the endings of both, for example {source: en, target: de} for text.en and text.de",
            next_step="set source.languages",
        )

    def other(path: str) -> str:
        head, ending, tail = path.rpartition(f".{languages.source}")
        return f"{head}.{languages.target}{tail}" if ending else path

    return replace(file, name=other(file.name), path=other(file.path))


def _line_pairs(file: SourceFile, partner: SourceFile, source: SourceConfig) -> Iterator[Found]:
    with file.open() as ours, partner.open() as theirs:
        number = 0
        for number, (text, translation) in enumerate(zip_longest(_lines(ours, source), _lines(theirs, source)), 1):
            if text is None or translation is None:
                shorter = file.name if text is None else partner.name
                raise SourceError(
                    f"{shorter} ends at line {number - 1}, and the other goes on",
                    where=f"{file.name}, {partner.name}",
                    expected="equally many lines, each the translation of the other",
                    next_step="align them again; a line break inside a sentence is the usual cause",
                )
            if isinstance(text, LongLine) or isinstance(translation, LongLine):
                payload = {"source": _head(text), "target": _head(translation), "truncated": True}
                reason = f"a line has more than source.max_row_bytes, {source.max_row_bytes:,}; its beginning is here"
                yield Rejected(f"{file.name}:{number}", payload, "too_long", reason)
            elif text.strip() or translation.strip():
                yield number, text, translation


def _lines(stream: BinaryIO, source: SourceConfig) -> Iterator[str | LongLine]:
    for part in read_lines(stream, encoding=source.encoding, max_bytes=source.max_row_bytes):
        yield from part.texts if isinstance(part, Lines) else [part]


def _head(line: str | LongLine) -> str:
    return line.head if isinstance(line, LongLine) else line[:1_000]
