"""Pairs of sentences from gettext catalogs (`.po` files), as the training benchmarks read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from noria.data.gettext import read_po


def read_pairs(catalog: Path) -> Iterator[tuple[str, str]]:
    """(source, translation) of every entry that is translated, not fuzzy, not obsolete, and not a copy.

    White space is unified: catalogs keep the line breaks and indents of templates. An entry with a plural
    gives two pairs.
    """
    for entry in read_po(catalog.read_text(encoding="utf-8")):
        if entry.is_fuzzy:
            continue
        for pair in entry.pairs():
            source, target = (" ".join(text.split()) for text in pair)
            if source and target and source != target:
                yield source, target
