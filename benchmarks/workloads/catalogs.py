"""Pairs of sentences from gettext catalogs (`.po` files).

The format: https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html. An entry is a message
id, its translation, and flags; strings are quoted as in C and may go on over several lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_LINE = re.compile(r'^(?:(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d+)\])?\s+)?"(.*)"$')


@dataclass
class _Entry:
    flags: set[str] = field(default_factory=set)
    strings: dict[str, str] = field(default_factory=dict)


def read_pairs(catalog: Path) -> Iterator[tuple[str, str]]:
    """(source, translation) of every entry that is translated, not fuzzy, not obsolete, and not a copy.

    White space is unified: catalogs keep the line breaks and indents of templates. An entry with a plural
    gives two pairs where its language has two forms.
    """
    for entry in _entries(catalog.read_text(encoding="utf-8")):
        if "fuzzy" in entry.flags:
            continue
        pairs = [("msgid", "msgstr"), ("msgid", "msgstr0"), ("msgid_plural", "msgstr1")]
        for source_key, target_key in pairs:
            source = " ".join(entry.strings.get(source_key, "").split())
            target = " ".join(entry.strings.get(target_key, "").split())
            if source and target and source != target:
                yield source, target


def _entries(text: str) -> Iterator[_Entry]:
    """Entries in order; obsolete ones (`#~`) are comments here and fall away."""
    entry, key = _Entry(), ""
    for line in map(str.strip, text.splitlines()):
        match = _LINE.match(line)
        begins = line.startswith("#,") or (match is not None and match[1] in ("msgctxt", "msgid"))
        if not line or (begins and any(name.startswith("msgstr") for name in entry.strings)):
            if entry.strings:
                yield entry
            entry, key = _Entry(), ""
        if line.startswith("#,"):
            entry.flags |= {flag.strip() for flag in line[2:].split(",")}
        if match is not None:
            name, plural, string = match.groups()
            key = f"{name}{plural or ''}" if name else key
            entry.strings[key] = entry.strings.get(key, "") + _unescape(string)
    if entry.strings:
        yield entry


def _unescape(string: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), string)
