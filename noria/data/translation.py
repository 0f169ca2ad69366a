"""Pairs of a text and its translation as data: measured for the gate, repaired, compared, augmented, sliced.

What `measure` calls a fault is what `repair` removes or refuses, so that repaired rows pass the gate's
row rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from noria.config import AugmentConfig, CleanConfig
from noria.data import text
from noria.data.codepoints import CONTROL_CLASS
from noria.data.mojibake import is_mojibake
from noria.data.placeholders import mend_placeholders, placeholders, same_placeholders
from noria.scenarios.base import Repaired

SOURCE, TARGET = "source", "target"
MEASURED = (
    pa.field("num_source_chars", pa.int64()),
    pa.field("num_target_chars", pa.int64()),
    pa.field("length_ratio", pa.float64()),
    pa.field("has_other_placeholders", pa.bool_()),
    pa.field("is_copy", pa.bool_()),
    pa.field("num_control_chars", pa.int64()),
    pa.field("has_mojibake", pa.bool_()),
    pa.field("has_replacement", pa.bool_()),
)
"""The columns that `measure` adds, in order."""

_KEPT = frozenset({"html"})
"""Tags and entities are content here: a translation must carry them over."""
_REPAIRABLE_CHARS = 20_000
_SPARE_BYTES = 10
_control = re.compile(f"[{CONTROL_CLASS}]")
_END = re.compile(r"\s*[.。!！…]+$")


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch and the columns of `MEASURED` behind its own; a null counts as an empty text.

    Characters are code points. `length_ratio` is that of the longer side to the shorter (see
    `length_ratio`). A copy is a translation that is its source, but for case and white space.
    """
    rows = list(zip(*(batch.column(name).to_pylist() for name in (SOURCE, TARGET)), strict=True))
    measured = [_measure(source or "", target or "") for source, target in rows]
    for number, column in enumerate(MEASURED):
        batch = batch.append_column(column, pa.array([row[number] for row in measured], column.type))
    return batch


def _measure(source: str, target: str) -> tuple[int, int, float, bool, bool, int, bool, bool]:
    both = f"{source}\n{target}"
    return (
        len(source),
        len(target),
        length_ratio(source, target),
        not same_placeholders(source, target),
        is_copy(source, target),
        len(_control.findall(both)),
        is_mojibake(source) or is_mojibake(target),
        text.REPLACEMENT in both,
    )


def length_ratio(source: str, target: str) -> float:
    """Bytes (UTF-8) of the longer side over those of the shorter, ten added to both: a few letters may be one."""
    sizes = [len(side.encode("utf-8", "surrogatepass")) + _SPARE_BYTES for side in (source, target)]
    return max(sizes) / min(sizes)


def is_copy(source: str, target: str) -> bool:
    """Whether nothing was translated."""
    return "".join(source.split()).casefold() == "".join(target.split()).casefold()


def repair(values: Mapping[str, object], config: CleanConfig) -> Repaired:
    """The pair with both texts repaired, or the rule that it breaks all the same.

    Rules: `empty`, `too_short`, `too_long`, `mojibake`, `replacement_character`, `untranslated`,
    `length_ratio`, `placeholders`.
    """
    repaired: dict[str, str] = {}
    repairs: dict[str, None] = {}
    for column in (SOURCE, TARGET):
        found = values.get(column)
        if not isinstance(found, str):
            return Repaired(None, rule="empty", reason=f"`{column}` is missing")
        if len(found) > (limit := max(_REPAIRABLE_CHARS, 10 * config.max_chars)):
            reason = f"`{column}` has {len(found):,} characters before repair, at most {limit:,} expected"
            return Repaired(None, rule="too_long", reason=reason)
        repaired[column], names = text.repair_text(found, without=_KEPT)
        repairs |= dict.fromkeys(names)
    source, target = repaired[SOURCE], repaired[TARGET]
    mended = mend_placeholders(source, target)
    if mended != target:
        repairs["placeholders"] = None
    broken = _broken_rule(source, mended, config)
    if broken:
        rule, reason = broken
        return Repaired(None, rule=rule, reason=reason, repairs=tuple(repairs))
    return Repaired({**values, SOURCE: source, TARGET: mended}, repairs=tuple(repairs))


def _broken_rule(source: str, target: str, config: CleanConfig) -> tuple[str, str] | None:
    for column, side in ((SOURCE, source), (TARGET, target)):
        if not side:
            return "empty", f"nothing is left of `{column}`"
        if text.REPLACEMENT in side:
            return "replacement_character", f"bytes of `{column}` were lost before it came here (U+FFFD)"
        if is_mojibake(side):
            return "mojibake", f"`{column}` was decoded with the wrong codec, and the bytes are not all there"
        if len(side) < config.min_chars:
            return "too_short", f"`{column}` has {len(side)} characters, at least {config.min_chars} expected"
        if len(side) > config.max_chars:
            return "too_long", f"`{column}` has {len(side)} characters, at most {config.max_chars} expected"
    if is_copy(source, target):
        return "untranslated", "the translation is its source"
    if (ratio := length_ratio(source, target)) > (limit := config.translation.max_length_ratio):
        return "length_ratio", f"one side is {ratio:.1f} times as long as the other, at most {limit:g} expected"
    if not same_placeholders(source, target):
        ours, theirs = placeholders(source), placeholders(target)
        lost, added = (" ".join((one - other).elements()) for one, other in ((ours, theirs), (theirs, ours)))
        return "placeholders", f"the translation lacks [{lost}] and adds [{added}]"
    return None


def duplicate_key(values: Mapping[str, object]) -> str:
    """What decides whether two sources are the same: letters and digits alone, NFKC, without case."""
    return text.duplicate_key(values, column=SOURCE)


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator
) -> Mapping[str, object] | None:
    """The pair without the full stop that both end in, or with its source in lower case; None where neither is any.

    Only what leaves the translation right: no words are lost or swapped.
    """
    source, target = str(values[SOURCE] or ""), str(values[TARGET] or "")
    if _END.search(source) and _END.search(target):
        source, target = _END.sub("", source), _END.sub("", target)
    elif source[:1].isupper() and source[1:2].islower() and not target[:1].isupper():
        source = source[0].lower() + source[1:]
    changed = (source, target) != (values[SOURCE], values[TARGET])
    return {**values, SOURCE: source, TARGET: target} if changed and source and target else None


def slices(values: Mapping[str, object]) -> Mapping[str, bool]:
    """Groups of validation rows that a person would ask about: length, placeholders, tags, digits."""
    source = str(values[SOURCE] or "")
    return {
        "short (≤ 20 characters)": len(source) <= 20,
        "medium (21–60 characters)": 20 < len(source) <= 60,
        "long (> 60 characters)": len(source) > 60,
        "one word": len(source.split()) == 1,
        "with placeholders": bool(placeholders(source)),
        "with digits": any(c.isdigit() for c in source),
    }
