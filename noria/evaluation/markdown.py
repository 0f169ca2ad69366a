"""Tables of Markdown."""

from __future__ import annotations

_SHOWN_CHARS = 300


def cell(text: str) -> str:
    """Text that a table of Markdown shows as it is, on one line, not endlessly long."""
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    for letter in "\\|<>*_`&[]~":
        shown = shown.replace(letter, f"\\{letter}")
    return " ".join(shown.split())
