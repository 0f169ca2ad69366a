"""Fonts for tokens of any script: matplotlib's own has Latin, Greek and Cyrillic, and draws boxes for the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import font_manager

_DEFAULT = "DejaVu Sans"
_LIKELY = re.compile(r"cjk|hei|song|ming|gothic|wqy|yahei|pingfang|fallback|unifont|noto", re.IGNORECASE)
_PLAIN = re.compile(r"serif|bold|italic|oblique|mono", re.IGNORECASE)


@dataclass(frozen=True)
class Lettering:
    """How to write tokens: font families in order of preference, and each token as it can be drawn.

    A token with a character that no font has is its number in the table, `#3`.
    """

    families: tuple[str, ...]
    names: tuple[str, ...]


def lettering(texts: Sequence[str], fonts: Sequence[str] | None = None) -> Lettering:
    """Choose from `fonts` (paths; by default the system's) those that have the characters of `texts`."""
    default = font_manager.get_font(font_manager.findfont(_DEFAULT))
    missing = {char for text in texts for char in text if not char.isspace() and not default.get_char_index(ord(char))}
    families = [_DEFAULT]
    candidates = font_manager.findSystemFonts() if fonts is None else fonts
    for path in sorted(candidates, key=_preference):
        if not missing:
            break
        if found := _characters_in(path, missing):
            font_manager.fontManager.addfont(path)
            families.append(font_manager.get_font(path).family_name)
            missing -= found
    names = (f"#{number}" if missing & set(text) else text for number, text in enumerate(texts))
    return Lettering(tuple(families), tuple(names))


def _preference(path: str) -> tuple[bool, bool, str]:
    name = Path(path).stem
    return not _LIKELY.search(name), bool(_PLAIN.search(name)), path


def _characters_in(path: str, wanted: set[str]) -> set[str]:
    try:
        font = font_manager.get_font(path)
    except (OSError, RuntimeError):  # no font, or of a kind that FreeType doesn't know
        return set()
    return {char for char in wanted if font.scalable and font.get_char_index(ord(char))}
