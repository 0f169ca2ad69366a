"""Text that was decoded with the wrong codec: found, and put right where the bytes are still all there.

Four accidents, three of which happen to Chinese text and are unknown to ftfy:

=====================================  =======================  ==========
what happened                          looks like               repaired by
=====================================  =======================  ==========
UTF-8 read as Latin-1, cp1252 …        ``ç‰©æµ`` …                ftfy
UTF-8 read as GBK                      ``鐗╂祦寰堝揩``             GB 18030 out, UTF-8 in
GBK read as Latin-1                    ``ÖÊÁ¿ºÜºÃ``               Latin-1 out, GB 2312 in
HZ (RFC 1843) never decoded            ``~{N@Iz<d~}``            HZ
=====================================  =======================  ==========

The GBK accidents are told from honest text by their result: it must be Chinese from end to end. A
text that was cut in the middle of a character stays what it is.
"""

from __future__ import annotations

import re

from ftfy import fix_encoding
from ftfy.badness import is_bad

from noria.data.codepoints import HAN_CLASS

_CHINESE = re.compile(f"[\x00-\x7f{HAN_CLASS}\u2010-\u2027\u3000-\u303f\uff00-\uffef]*[{HAN_CLASS}]"
                      f"[\x00-\x7f{HAN_CLASS}\u2010-\u2027\u3000-\u303f\uff00-\uffef]*")  # fmt: skip
_HAN_PAIR = re.compile(f"[{HAN_CLASS}]{{2}}")
_LATIN_PAIRS = re.compile("[\xa1-\xff]{4}")
_SUSPECT = re.compile("[\x80-\u024f\u0370-\u04ff\u2122]")  # every pattern of ftfy.badness holds one of these
_HZ = re.compile(r"~\{(?:[!-w][!-~])+~\}")


def is_mojibake(text: str) -> bool:
    """Whether `text` was decoded with the wrong codec, repairable or not."""
    return unscramble(text) != text or (_SUSPECT.search(text) is not None and is_bad(text))


def unscramble(text: str) -> str:
    """`text` as it was before it was decoded with the wrong codec; unchanged where nothing is known to be wrong."""
    if "~{" in text:
        text = _HZ.sub(lambda match: _recode(match[0], "ascii", "hz") or match[0], text)
    if text.isascii():
        return text
    if _HAN_PAIR.search(text) and (fixed := _recode(text, "gb18030", "utf-8")):
        return fixed
    if _SUSPECT.search(text):
        fixed = fix_encoding(text)
        if fixed == text and _LATIN_PAIRS.search(text):
            return _recode(text, "latin-1", "gb2312") or text
        return fixed
    return text


def _recode(text: str, wrong: str, right: str) -> str | None:
    """`text` with the wrong decoding undone, when that gives Chinese and nothing else."""
    try:
        fixed = text.encode(wrong).decode(right)
    except UnicodeError:
        return None
    return fixed if _CHINESE.fullmatch(fixed) else None
