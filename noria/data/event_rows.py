"""Events of users and items as data: measured for the gate, repaired, compared.

Everything here is a pure function of one row or one batch. What `measure` calls a fault is what
`repair` removes or refuses, so that repaired rows pass the gate's row rules.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from noria.config import AugmentConfig, CleanConfig, EventsConfig
from noria.data.codepoints import CONTROL_CLASS
from noria.scenarios.base import Repaired

SCHEMA = pa.schema([pa.field("user", pa.string()), pa.field("item", pa.string()), pa.field("time", pa.float64())])
"""`time` is seconds since 1970, UTC."""
MEASURED = (
    pa.field("num_user_chars", pa.int64()),
    pa.field("num_item_chars", pa.int64()),
    pa.field("num_stray_chars", pa.int64()),
    pa.field("year", pa.float64()),
)
"""The columns that `measure` adds, in order."""
_NAMES = ("user", "item")
_YEAR_S = 365.2425 * 86_400
_FINER_UNITS = (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9))
_controls = re.compile(f"[{CONTROL_CLASS}\t\n\r]")


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch and the columns of `MEASURED` behind its own; a null counts as an empty text, and as year 0.

    num_user_chars and num_item_chars are what is left of the ids without stray characters, which are
    controls anywhere and white space at the ends; year is the calendar year with its fraction.
    """
    strays = np.zeros(batch.num_rows, np.int64)
    columns = []
    for name in _NAMES:
        codes = pc.fill_null(batch.column(name), "").dictionary_encode()
        texts = codes.dictionary.to_pylist()
        indices = codes.indices.to_numpy()
        kept = np.array([len(tidy(text)) for text in texts], np.int64)[indices]
        strays += np.array([len(text) for text in texts], np.int64)[indices] - kept
        columns.append(kept)
    seconds = batch.column("time").to_numpy(zero_copy_only=False)
    years = np.where(np.isfinite(seconds), 1970 + seconds / _YEAR_S, 0.0)
    for field, values in zip(MEASURED, (*columns, strays, years), strict=True):
        batch = batch.append_column(field, pa.array(values, field.type))
    return batch


def repair(values: Mapping[str, object], config: CleanConfig) -> Repaired:
    """The event with tidy ids and its time in seconds, or the rule that it breaks all the same.

    Rules: `missing_id`, `long_id`, `missing_time`, `absurd_time`.
    """
    repaired, repairs = dict(values), []
    for name in _NAMES:
        text = tidy(str(values[name])) if values[name] is not None else ""
        if not text:
            return Repaired(None, rule="missing_id", reason=f"`{name}` is missing or empty")
        if len(text) > config.events.max_id_chars:
            reason = f"`{name}` has {len(text):,} characters, at most {config.events.max_id_chars:,} expected"
            return Repaired(None, rule="long_id", reason=reason)
        if text != values[name]:
            repairs.append("stray_characters")
        repaired[name] = text
    time = values["time"]
    if not isinstance(time, int | float) or math.isnan(time):
        return Repaired(None, rule="missing_time", reason="`time` is missing: nobody knows what came before it")
    unit, seconds = _in_seconds(float(time), config.events)
    if seconds is None:
        reason = f"`time` is {time:g}, between {config.events.min_time:.0f} and {config.events.max_time:.0f} expected"
        return Repaired(None, rule="absurd_time", reason=reason)
    if unit:
        repairs.append(unit)
    return Repaired({**repaired, "time": seconds}, repairs=tuple(dict.fromkeys(repairs)))


def tidy(text: str) -> str:
    """The id without controls anywhere and without white space at the ends; emoji stay whole."""
    return _controls.sub("", text).strip()


def duplicate_key(values: Mapping[str, object]) -> str:
    """One user, one item, one moment: the same event."""
    return f"{values['user']}\0{values['item']}\0{values['time']!r}"


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator
) -> Mapping[str, object] | None:
    """None: an event that nobody took part in is no event."""
    return None


def _in_seconds(time: float, config: EventsConfig) -> tuple[str, float | None]:
    """The time in seconds, and the finer unit that it was given in, which the bounds leave no doubt about."""
    for unit, per_second in (("", 1.0), *_FINER_UNITS):
        if config.min_time <= time / per_second <= config.max_time:
            return unit, time / per_second
    return "", None
