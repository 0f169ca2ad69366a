"""Documents as data: measured for the gate, repaired, compared, sliced.

A language model learns a document letter by letter, so little is repaired: line ends, a byte order mark, control
characters. Direction marks and joiners stay: right-to-left text and emoji are spelt with them. What `measure`
calls a fault is what `repair` removes or refuses, so that repaired rows pass the gate's row rules.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from noria.config import AugmentConfig, CleanConfig
from noria.scenarios.base import Repaired

TEXT, NAME = "text", "name"
MEASURED = (
    pa.field("num_chars", pa.int64()),
    pa.field("num_lines", pa.int64()),
    pa.field("longest_line_chars", pa.int64()),
    pa.field("num_control_chars", pa.int64()),
    pa.field("odd_share", pa.float64()),
    pa.field("has_foreign_line_ends", pa.bool_()),
    pa.field("is_generated", pa.bool_()),
)
"""The columns that `measure` adds, in order."""

_REPLACEMENT = "\ufffd"
_control = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]|^\ufeff")
_line_end = re.compile("\r\n?")
_word = re.compile(r"\w+|[^\w\s]")
_generated = re.compile(
    r"\bauto-?generated\b|\b(?:this file|file|code|codec \S+) (?:is|was|has been)? ?generated (?:by|from)\b"
    r"|\bgenerated (?:from|by) .{0,200}\bdo not edit\b|@generated\b",
    re.IGNORECASE | re.DOTALL,
)
_HEAD_CHARS = 500
_SURROGATES, _NUM_SURROGATES, _NUM_CODES = 0xD800, 0x800, 0x10F000
_SHORT_CHARS, _LONG_CHARS = 2_000, 20_000
_MOST_KINDS_CHARS = 10


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch and the columns of `MEASURED` behind its own; a null counts as an empty text.

    Characters are code points. `odd_share` is that of replacement characters; a document is called generated
    by what its first 500 characters say.
    """
    measured = [_measure(text or "") for text in batch.column(TEXT).to_pylist()]
    for number, column in enumerate(MEASURED):
        batch = batch.append_column(column, pa.array([row[number] for row in measured], column.type))
    return batch


def _measure(text: str) -> tuple[int, int, int, int, float, bool, bool]:
    lines = text.split("\n")
    return (
        len(text),
        len(lines),
        max(map(len, lines)),
        len(_control.findall(text)),
        _odd_share(text),
        "\r" in text,
        _generated.search(text[:_HEAD_CHARS]) is not None,
    )


def _odd_share(text: str) -> float:
    return text.count(_REPLACEMENT) / max(len(text), 1)


def repair(values: Mapping[str, object], config: CleanConfig) -> Repaired:
    """The document repaired, or the rule that it breaks all the same.

    Rules: `empty`, `too_short`, `too_long`, `replacement_characters`, `generated`, `long_line`.
    """
    text = values.get(TEXT)
    if not isinstance(text, str):
        return Repaired(None, rule="empty", reason=f"`{TEXT}` is missing")
    repairs = []
    for name, step in (("control_characters", _without_controls), ("line_ends", partial(_line_end.sub, "\n"))):
        changed = step(text)
        if changed != text:
            repairs.append(name)
            text = changed
    broken = _broken_rule(text, config)
    if broken:
        rule, reason = broken
        return Repaired(None, rule=rule, reason=reason, repairs=tuple(repairs))
    return Repaired({**values, TEXT: text}, repairs=tuple(repairs))


def _without_controls(text: str) -> str:
    return _control.sub("", text).lstrip("\ufeff")  # a mark that stood behind a control character comes first now


def _broken_rule(text: str, config: CleanConfig) -> tuple[str, str] | None:
    limits = config.documents
    if not text.strip():
        return "empty", "nothing is in the document"
    if len(text) < config.min_chars:
        return "too_short", f"{len(text):,} characters, at least {config.min_chars:,} expected"
    if len(text) > config.max_chars:
        return "too_long", f"{len(text):,} characters, at most {config.max_chars:,} expected"
    if (share := _odd_share(text)) > limits.max_odd_share:
        return "replacement_characters", f"{share:.2%} of its characters were lost before it came here (U+FFFD)"
    if not limits.keep_generated and (found := _generated.search(text[:_HEAD_CHARS])):
        return "generated", f"a program wrote it: “{' '.join(found[0].split())[:80]}”"
    if (longest := max(map(len, text.split("\n")))) > limits.max_line_chars:
        return "long_line", f"a line of {longest:,} characters, at most {limits.max_line_chars:,} expected"
    return None


def duplicate_key(values: Mapping[str, object]) -> str:
    """One character for each word or mark, by its hash, white space left out.

    The 3-grams of characters that decide on near duplicates are then shingles of three words, which is what
    documents are compared by (Broder 1997): the letters of any two long ones are nearly the same.
    """
    words = _word.findall(str(values[TEXT] or ""))
    codes = np.fromiter(
        (zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words), dtype=np.uint32, count=len(words)
    )
    codes %= _NUM_CODES
    codes[codes >= _SURROGATES] += _NUM_SURROGATES
    return codes.astype("<u4").tobytes().decode("utf-32-le")


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator
) -> Mapping[str, object] | None:
    """None: whatever is changed in a document is text that nobody wrote, and the model would learn to write it."""
    return None


def slices(values: Mapping[str, object]) -> Mapping[str, bool]:
    """Groups of validation rows that a person would ask about: length, kind of file, other alphabets than Latin."""
    text = str(values[TEXT] or "")
    groups = {
        "short (≤ 2,000 characters)": len(text) <= _SHORT_CHARS,
        "medium (2,001–20,000 characters)": _SHORT_CHARS < len(text) <= _LONG_CHARS,
        "long (> 20,000 characters)": len(text) > _LONG_CHARS,
        "with more than ASCII": not text.isascii(),
    }
    return {**groups, f"kind: {kind}": True} if (kind := kind_of(values)) else groups


def kind_of(values: Mapping[str, object]) -> str:
    """The ending of the document's name, such as `.py`; empty without any."""
    suffix = PurePosixPath(str(values.get(NAME) or "")).suffix
    return suffix.lower() if len(suffix) <= _MOST_KINDS_CHARS else ""
