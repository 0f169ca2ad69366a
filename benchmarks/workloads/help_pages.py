"""Sentence pairs of LibreOffice's help (MPL-2.0): what one element of a page says in two languages.

    apt-get download libreoffice-help-en-us libreoffice-help-de && for deb in *.deb; do dpkg -x $deb help; done
    python -m benchmarks.workloads.help_pages help/usr/share/libreoffice/help help.tsv

Pages have the same names in all languages, and headings and paragraphs the same ids. The file has the columns source,
target and page, the last so that a split can keep pages together (`source.carry: [page]`, `split.group_by: page`).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_BLOCKS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6"})


class _Elements(HTMLParser):
    """The text of each heading and paragraph that has an id."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self._id = ""
        self._parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS:
            self._id, self._parts = dict(attrs).get("id") or "", []

    def handle_data(self, data: str) -> None:
        self._parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS and self._id:
            self.texts[self._id] = " ".join("".join(self._parts).split())
            self._id = ""


def read_page(path: Path) -> dict[str, str]:
    """Text by id."""
    elements = _Elements()
    elements.feed(path.read_text(encoding="utf-8"))
    return elements.texts


def pairs_of(root: Path, *, source: str, target: str) -> Iterator[tuple[str, str, str]]:
    """(source, target, page) of elements that both languages have, without those that were not translated."""
    for path in sorted((root / source).rglob("*.html")):
        page = path.relative_to(root / source)
        other = root / target / page
        if not other.exists():
            continue
        translated = read_page(other)
        for name, text in read_page(path).items():
            if text and translated.get(name) and text != translated[name]:
                yield text, translated[name], str(page.with_suffix(""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="…/libreoffice/help, with a folder a language")
    parser.add_argument("file", type=Path, help="what to write")
    parser.add_argument("--source", default="en-US")
    parser.add_argument("--target", default="de")
    args = parser.parse_args()
    with args.file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["source", "target", "page"])
        writer.writerows(pairs_of(args.root, source=args.source, target=args.target))


if __name__ == "__main__":
    main()
