"""What a report is made of. Text is plain text: the page escapes all of it, since some of it is data of users."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

_MOST_PICTURE_BYTES = 3_000_000
_BETWEEN_CELLS = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Bar:
    """A cell that shows when something happened: from `start` for `length`, both as shares of the whole."""

    start: float
    length: float
    tone: str


@dataclass(frozen=True)
class Span:
    """A cell that shows a value with its interval: ends and value as shares of the column, and where its zero lies."""

    low: float
    value: float
    high: float
    zero: float | None


@dataclass(frozen=True)
class Link:
    """A cell that leads to another page of ours."""

    text: str
    href: str


Cell = str | Bar | Span | Link


@dataclass(frozen=True)
class Table:
    """Rows under a header; a column whose name ends in `#` holds numbers, and is aligned as such."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG, carried in the page."""

    png: bytes
    title: str


@dataclass(frozen=True)
class Drawing:
    """An SVG of ours, and what it shows, for those who can't see it."""

    svg: Markup
    title: str


@dataclass(frozen=True)
class Code:
    """Lines that are shown as they are."""

    text: str


@dataclass(frozen=True)
class Section:
    """A chapter of the page.

    Attributes
    ----------
    title:
        Its heading.
    lead:
        One sentence that says what matters.
    parts:
        Tables, pictures, drawings, code and paragraphs.
    stage:
        The node whose work it shows: where this run did not come to that, the page says so.
    """

    title: str
    lead: str = ""
    parts: tuple[Table | Picture | Drawing | Code | str, ...] = ()
    stage: str | None = None

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def table(header: str, rows: Sequence[Sequence[Cell]], *, caption: str = "") -> Table:
    """A table whose header is written with bars between the columns: `stage | rows#`."""
    return Table(tuple(name.strip() for name in header.split("|")), tuple(tuple(row) for row in rows), caption)


def spans(estimates: Sequence[tuple[float, float, float]], *, around_zero: bool = False) -> list[Span]:
    """Values with their ends (value, low, high) on one common scale, which holds zero where that decides."""
    ends = [end for estimate in estimates for end in estimate] + ([0.0] if around_zero else [])
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = 0.04 * ((high - low) or 1.0)
    low, width = low - room, (high - low) + 2 * room or 1.0

    def share(value: float) -> float:
        return min(max((value - low) / width, 0.0), 1.0)

    zero = share(0.0) if around_zero else None
    return [Span(share(down), share(value), share(up), zero) for value, down, up in estimates]


def pictures(directory: Path) -> list[Picture]:
    """Every PNG of a directory, in the order of their names; what is too large for a page is left out."""
    found = sorted(directory.glob("*.png")) if directory.exists() else []
    return [
        Picture(path.read_bytes(), path.stem.replace("_", " "))
        for path in found
        if path.stat().st_size <= _MOST_PICTURE_BYTES
    ]


def tables_of_markdown(text: str) -> list[Table]:
    """The tables of a Markdown text, their cells as plain text; what a row has beyond the header is left out."""
    found: list[list[tuple[str, ...]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            cells = _BETWEEN_CELLS.split(line.strip().removeprefix("|").removesuffix("|"))
            found[-1].append(tuple(re.sub(r"\\(.)|[*`]", r"\1", cell).strip() for cell in cells))
        elif found[-1]:
            found.append([])
    blocks = (block for block in found if len(block) > 2)
    return [Table(header, tuple(row[: len(header)] for row in rows)) for header, _, *rows in blocks]
