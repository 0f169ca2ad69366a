"""Drawings of a report, as SVG with the page's own colours: narrow and tall, so that they fit a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from noria.artifacts import Ledger
from noria.report.parts import Drawing

_WIDTH = 460
_TRUNK_X, _TRUNK_WIDTH, _LEVEL = 215, 130, 58
_BOX_WIDTH, _BOX_HEIGHT, _BOX_GAP = 200, 44, 22
_SIDE_X = _WIDTH - _BOX_WIDTH - 2


def draw_rows(ledgers: Mapping[str, Ledger]) -> Drawing:
    """The rows' way down, as wide as they are many: what is refused goes off to the right, what is added comes in."""
    most = max(max(ledger.rows_in + ledger.added, 1) for ledger in ledgers.values())
    drawn: list[Markup] = []
    y = 24.0
    for kind, ledger in ledgers.items():
        drawn += [
            _text(100, y - 2, kind, anchor="end"),
            _text(100, y + 13, f"{ledger.rows_in:,}", anchor="end", quiet=True),
        ]
        drawn += _level(ledger, y, most=most)
        y += _LEVEL
    last = list(ledgers.values())[-1]
    drawn.append(_text(_TRUNK_X, y + 4, f"{last.rows_out:,} rows", anchor="middle"))
    return Drawing(_svg(y + 14, drawn), "Where the rows went: " + "; ".join(_told(*item) for item in ledgers.items()))


def _told(kind: str, ledger: Ledger) -> str:
    return f"{kind}: {ledger.rows_in} in, {ledger.added} added, {ledger.rows_out} out, {ledger.quarantined} quarantined"


def _level(ledger: Ledger, y: float, *, most: int) -> list[Markup]:
    """One stage: a trunk of what goes on, and its branches."""
    whole, kept, off, new = (
        max(_TRUNK_WIDTH * count / most, 1.5 if count else 0.0)
        for count in (ledger.rows_in, ledger.rows_out, ledger.quarantined, ledger.added)
    )
    left, bottom = _TRUNK_X - whole / 2, y + _LEVEL - 14
    end = _TRUNK_X - kept / 2
    middle = (y + bottom) / 2
    drawn = [_ribbon((left, left + whole - off), y, (end + new, end + kept), bottom, middle, kind="kept")]
    if ledger.quarantined:
        right = left + whole
        drawn.append(_ribbon((right - off, right), y, (325, 325 + off), bottom, middle, kind="refused"))
        drawn.append(_text(330 + off, bottom, f"{ledger.quarantined:,} refused", anchor="start"))
    if ledger.added:
        drawn.append(_ribbon((112, 112 + new), y, (end, end + new), bottom, middle, kind="added"))
        drawn.append(_text(100, y + 29, f"+{ledger.added:,}", anchor="end"))
    return drawn


def _ribbon(
    top: tuple[float, float], y: float, bottom: tuple[float, float], end: float, middle: float, *, kind: str
) -> Markup:
    (a, b), (c, d) = top, bottom
    path = (
        f"M{a:.1f},{y:.1f} C{a:.1f},{middle:.1f} {c:.1f},{middle:.1f} {c:.1f},{end:.1f} "
        f"L{d:.1f},{end:.1f} C{d:.1f},{middle:.1f} {b:.1f},{middle:.1f} {b:.1f},{y:.1f} Z"
    )
    return Markup('<path class="ribbon {}" d="{}"/>').format(kind, path)


@dataclass(frozen=True)
class Box:
    """A thing that was made: `name`, and `note` under it; `parents` are names; `aside`: it is told of, not built on."""

    name: str
    note: str
    parents: tuple[str, ...] = ()
    aside: bool = False


def draw_graph(boxes: Sequence[Box]) -> Drawing:
    """What was made of what, downwards: what is built on at the left, reports and verdicts beside it."""
    places: dict[str, tuple[float, float]] = {}
    y = {False: 2.0, True: 2.0}
    for box in boxes:
        below = max((places[name][1] for name in box.parents if name in places), default=-_BOX_HEIGHT)
        y[box.aside] = max(y[box.aside], below + (_BOX_HEIGHT + _BOX_GAP) * (0.5 if box.aside else 1.0))
        places[box.name] = (_SIDE_X if box.aside else 2.0, y[box.aside])
        y[box.aside] += _BOX_HEIGHT + _BOX_GAP
    edges = [
        _edge(places[name], places[box.name], aside=box.aside)
        for box in boxes
        for name in box.parents
        if name in places
    ]
    drawn = [*edges, *(_box(box, *places[box.name]) for box in boxes)]
    made = "; ".join(f"{box.name} of {', '.join(box.parents)}" for box in boxes if box.parents)
    return Drawing(_svg(max(y.values()), drawn), f"What was made of what: {made}")


def _box(box: Box, x: float, y: float) -> Markup:
    return Markup('<rect class="box{}" x="{}" y="{:.1f}" width="{}" height="{}" rx="6"/>{}{}').format(
        " aside" if box.aside else "",
        x,
        y,
        _BOX_WIDTH,
        _BOX_HEIGHT,
        _text(x + 10, y + 18, box.name, anchor="start"),
        _text(x + 10, y + 34, box.note[:34], anchor="start", quiet=True),
    )


def _edge(start: tuple[float, float], end: tuple[float, float], *, aside: bool) -> Markup:
    (x, y), (to_x, to_y) = start, end
    is_next = to_y - y <= _BOX_HEIGHT + _BOX_GAP + 1
    if aside and x < _SIDE_X:
        ends = (x + _BOX_WIDTH, y + _BOX_HEIGHT / 2, to_x, to_y + _BOX_HEIGHT / 2)
        bend = f"C{ends[0] + 30},{ends[1]:.1f} {ends[2] - 30},{ends[3]:.1f} {ends[2]},{ends[3]:.1f}"
    elif is_next or x != to_x:
        ends = (x + _BOX_WIDTH / 2, y + _BOX_HEIGHT, to_x + _BOX_WIDTH / 2, to_y)
        half = (ends[1] + ends[3]) / 2
        bend = f"C{ends[0]},{half:.1f} {ends[2]},{half:.1f} {ends[2]},{ends[3]:.1f}"
    else:  # past others, along their right
        ends = (x + _BOX_WIDTH, y + _BOX_HEIGHT / 2, to_x + _BOX_WIDTH, to_y + _BOX_HEIGHT / 2)
        bend = f"C{ends[0] + 26},{ends[1]:.1f} {ends[2] + 26},{ends[3]:.1f} {ends[2]},{ends[3]:.1f}"
    return Markup('<path class="edge" d="M{},{:.1f} {}"/>').format(ends[0], ends[1], bend)


def _text(x: float, y: float, text: str, *, anchor: str, quiet: bool = False) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(
        x, y, anchor, Markup(' class="quiet"') if quiet else "", text
    )


def _svg(height: float, drawn: Sequence[Markup]) -> Markup:
    """The elements under a frame; its title is the page's to say."""
    return Markup('<svg viewBox="0 0 {} {:.0f}" aria-hidden="true">{}</svg>').format(
        _WIDTH, height, Markup("").join(drawn)
    )
