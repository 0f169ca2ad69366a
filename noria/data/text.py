"""Chinese (or any) text as data: measured for the gate, repaired, compared, augmented, sliced.

Everything here is a pure function of one row or one batch. What `measure` calls a fault is what
`repair` removes or refuses, so that repaired rows pass the gate's row rules.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ftfy.fixes import fix_surrogates

from noria.config import AugmentConfig, CleanConfig
from noria.data.codepoints import CONTROL, CONTROL_CLASS, HAN, HAN_CLASS, LETTER, codepoints, count_flags
from noria.data.mojibake import is_mojibake, unscramble
from noria.scenarios.base import Repaired

MEASURED = (
    pa.field("num_chars", pa.int64()),
    pa.field("han_share", pa.float64()),
    pa.field("num_control_chars", pa.int64()),
    pa.field("has_mojibake", pa.bool_()),
    pa.field("has_html", pa.bool_()),
    pa.field("has_replacement", pa.bool_()),
)
"""The columns that `measure` adds, in order."""

REPLACEMENT = "\ufffd"
_REPAIRABLE_CHARS = 20_000
"""Repairs of hostile text (a million unclosed comments) take time that grows with the square of its length."""
_TAGS = (
    "a|abbr|article|aside|b|big|blockquote|body|br|button|center|code|dd|del|div|dl|dt|em|embed|font|footer|form|"
    "h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|link|main|meta|nav|object|ol|option|p|param|pre|s|"
    "script|section|select|small|span|strike|strong|style|sub|sup|table|tbody|td|textarea|tfoot|th|thead|title|tr|"
    "tt|u|ul|video"
)
_MARKUP = rf"</?(?i:{_TAGS})(?:\s[^<>]*)?/?>|<!--(?s:.*?)-->"
_ENTITIES = (
    "amp|lt|gt|quot|apos|nbsp|ensp|emsp|middot|bull|hellip|mdash|ndash|ldquo|rdquo|lsquo|rsquo|laquo|raquo|times|"
    "divide|deg|plusmn|copy|reg|trade|yen|euro|pound|cent|sect|para|rarr|larr|zwj|zwnj|shy|iexcl|iquest|acute|uml"
)
_ENTITY = rf"&(?:#[0-9]{{1,7}}|#[xX][0-9a-fA-F]{{1,6}}|{_ENTITIES});"
_HTML = f"{_MARKUP}|{_ENTITY}"
_html, _markup, _entity = re.compile(_HTML), re.compile(_MARKUP), re.compile(_ENTITY)
_script = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_control = re.compile(f"[{CONTROL_CLASS}]")
_space = re.compile(r"\s+")
_han = re.compile(f"[{HAN_CLASS}]")
_not_word = re.compile(r"[\W_]+")
_WIDE = {code: code - 0xFEE0 for first, last in ("０９", "ＡＺ", "ａｚ") for code in range(ord(first), ord(last) + 1)}
_wide = re.compile("[０-９Ａ-Ｚａ-ｚ]")
_clause = re.compile(r"[^，。！？；,.!?;\s]+[，。！？；,.!?;\s]*")


def measure(batch: pa.RecordBatch, *, column: str = "text") -> pa.RecordBatch:
    """The batch and the columns of `MEASURED` behind its own; a null counts as an empty text.

    num_chars counts code points, han_share is the share of Han characters among letters (0 when
    there are no letters), num_control_chars counts characters that show nothing, and the flags say
    whether the text was decoded wrongly, holds HTML tags or entities, or holds U+FFFD.
    """
    text = pc.fill_null(batch.column(column), "")
    texts = text.to_pylist()
    codes, offsets = codepoints(texts)
    num_letters = count_flags(codes, offsets, LETTER)
    columns = (
        pc.cast(pc.utf8_length(text), pa.int64()),
        pa.array(count_flags(codes, offsets, HAN) / np.maximum(num_letters, 1)),
        pa.array(count_flags(codes, offsets, CONTROL)),
        pa.array(map(is_mojibake, texts), type=pa.bool_()),
        pc.match_substring_regex(text, _HTML),
        pc.match_substring(text, REPLACEMENT),
    )
    for field, values in zip(MEASURED, columns, strict=True):
        batch = batch.append_column(field, values)
    return batch


def han_share(text: str) -> float:
    """Share of Han characters among letters, as `measure` counts it; 0 when there are no letters."""
    rest = _han.sub("", text)
    num_han = len(text) - len(rest)
    num_letters = num_han + sum(map(str.isalpha, rest))
    return num_han / num_letters if num_letters else 0.0


def repair(values: Mapping[str, object], config: CleanConfig, *, column: str = "text") -> Repaired:
    """The row with its text repaired, or the rule that it breaks all the same.

    Rules: `empty`, `mojibake`, `replacement_character`, `too_short`, `too_long`, `wrong_script`.
    """
    text = values.get(column)
    if not isinstance(text, str):
        return Repaired(None, rule="empty", reason=f"`{column}` is missing")
    if len(text) > (limit := max(_REPAIRABLE_CHARS, 10 * config.max_chars)):
        return Repaired(
            None, rule="too_long", reason=f"{len(text):,} characters before repair, at most {limit:,} expected"
        )
    repaired, repairs = repair_text(text)
    if broken := _broken_rule(repaired, config):
        rule, reason = broken
        return Repaired(None, rule=rule, reason=reason, repairs=repairs)
    return Repaired({**values, column: repaired}, repairs=repairs)


def repair_text(text: str, *, without: Collection[str] = ()) -> tuple[str, tuple[str, ...]]:
    """The repaired text and the names of the repairs that changed it; repairing twice changes nothing more.

    `without` names repairs to leave out: in a text whose tags are content, `html`.

    Wrong decoding is undone first (its control characters are bytes of the text), then markup goes
    and entities are resolved, then control characters, then Unicode is normalized and white space
    collapsed. One repair can uncover work for another (`&lt;br&gt;`), so they go round until nothing
    changes; each but the last two shortens the text, so that ends.

    Normalization is NFC with full-width letters and digits made narrow, and no more: NFKC would also
    turn ，！？ into ASCII, ① into 1 and … into three dots, which changes four of five Chinese reviews
    and takes away what their authors typed. What compares texts (`duplicate_key`) does use NFKC.
    """
    repairs: dict[str, None] = {}
    before = None
    while text != before:
        before = text
        for name, step in _STEPS:
            stepped = text if name in without else step(text)
            if stepped != text:
                repairs[name] = None
                text = stepped
    return text, tuple(repairs)


def _strip_html(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    text = _markup.sub(" ", _script.sub(" ", text))
    return _entity.sub(lambda match: html.unescape(match[0]), text)


def _normalize(text: str) -> str:
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return text.translate(_WIDE) if _wide.search(text) else text


_STEPS = (
    ("surrogates", fix_surrogates),
    ("mojibake", unscramble),
    ("html", _strip_html),
    ("control_characters", lambda text: _control.sub("", text)),
    ("unicode", _normalize),
    ("whitespace", lambda text: _space.sub(" ", text).strip()),
)


def _broken_rule(text: str, config: CleanConfig) -> tuple[str, str] | None:
    if not text:
        return "empty", "nothing is left of the text"
    if REPLACEMENT in text:
        return "replacement_character", "bytes were lost before the text came here (U+FFFD)"
    if is_mojibake(text):
        return "mojibake", "decoded with the wrong codec, and the bytes are not all there"
    if len(text) < config.min_chars:
        return "too_short", f"{len(text)} characters, at least {config.min_chars} expected"
    if len(text) > config.max_chars:
        return "too_long", f"{len(text)} characters, at most {config.max_chars} expected"
    if (share := han_share(text)) < config.min_han_share:
        return "wrong_script", f"{share:.0%} of its letters are Han, at least {config.min_han_share:.0%} expected"
    return None


def duplicate_key(values: Mapping[str, object], *, column: str = "text") -> str:
    """What decides whether two texts are the same: letters and digits alone, NFKC, without case.

    A text of nothing but punctuation or emoji keeps these, without white space.
    """
    text = unicodedata.normalize("NFKC", str(values[column] or "")).casefold()
    return _not_word.sub("", text) or "".join(text.split())


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator, *, column: str = "text"
) -> Mapping[str, object] | None:
    """The row with its clauses in another order, neighbours swapped and characters deleted.

    None when nothing changed or fewer than two characters would be left.
    """
    text = str(values[column] or "")
    clauses = _clause.findall(text)
    if config.shuffle_clauses and len(clauses) > 1 and "".join(clauses) == text:
        text = "".join(clauses[index] for index in generator.permutation(len(clauses)))
    characters = list(text)
    for index in np.flatnonzero(generator.random(max(len(characters) - 1, 0)) < config.swap_chars):
        characters[index : index + 2] = characters[index : index + 2][::-1]
    kept = generator.random(len(characters)) >= config.delete_chars
    changed = "".join(character for character, keep in zip(characters, kept, strict=True) if keep)
    return {**values, column: changed} if len(changed) > 1 and changed != values[column] else None


def slices(values: Mapping[str, object], *, column: str = "text") -> Mapping[str, bool]:
    """Groups of validation rows that a person would ask about: length, foreign letters, digits, negation."""
    text = str(values[column] or "")
    return {
        "short (≤ 20 characters)": len(text) <= 20,
        "medium (21–100 characters)": 20 < len(text) <= 100,
        "long (> 100 characters)": len(text) > 100,
        "with Latin letters": any(c.isascii() and c.isalpha() for c in text),
        "with digits": any(c.isdigit() for c in text),
        "with negation": any(c in text for c in "不没无未别"),
    }
