"""Texts as flat arrays of code points: character counts and n-grams without a Python loop over characters.

Shapes: C = characters of a batch, R = rows.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

HAN = 1
LETTER = 2
CONTROL = 4

HAN_CLASS = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han characters, for use inside `[…]` of a regular expression."""
CONTROL_CLASS = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff"
)
"""Characters with nothing to show: C0 and C1 controls (tab and line ends excepted), soft hyphen, zero-width space,
direction marks, byte order marks, non-characters. The zero-width joiners (U+200C, U+200D) and variation selectors
stay out: emoji and several scripts are spelt with them."""


def codepoints(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """All characters of `texts`, uint32 (C,), and where each text starts and ends, int64 (R + 1,)."""
    codes = np.frombuffer("".join(texts).encode(f"utf-32-{sys.byteorder[0]}e", "surrogatepass"), dtype=np.uint32)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)), out=offsets[1:])
    return codes, offsets


def count_flags(codes: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], flag: int) -> npt.NDArray[np.int64]:
    """How many characters of each text carry `flag` (HAN, LETTER, CONTROL), int64 (R,)."""
    running = np.zeros(len(codes) + 1, dtype=np.int64)
    np.cumsum(character_flags()[codes] & flag != 0, out=running[1:])
    return running[offsets[1:]] - running[offsets[:-1]]


@cache
def character_flags() -> npt.NDArray[np.uint8]:
    """Flags of every code point, uint8 (0x110000,). Letters are the categories L*, and 〇."""
    flags = np.zeros(sys.maxunicode + 1, dtype=np.uint8)
    for code in range(0x20000):
        if unicodedata.category(chr(code))[0] == "L":
            flags[code] = LETTER
    _mark(flags, HAN_CLASS, HAN | LETTER)
    _mark(flags, CONTROL_CLASS, CONTROL)
    return flags


def _mark(flags: npt.NDArray[np.uint8], ranges: str, flag: int) -> None:
    characters = iter(ranges)
    last = ""
    for character in characters:
        first, stop = (ord(last), ord(next(characters))) if character == "-" else (ord(character),) * 2
        flags[first : stop + 1] |= flag
        last = character
