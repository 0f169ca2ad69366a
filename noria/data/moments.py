"""Numbers as sources write them; a moment in time is seconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime


def number_of(value: object) -> float | None:
    """The number that a value means, None where a field was left empty; a time without a zone is UTC.

    Raises
    ------
    ValueError
        When it is neither a number nor a date or time (ISO 8601).
    """
    if value is None or isinstance(value, int | float):
        return value if value is None else float(value)
    if isinstance(value, str):
        return _number_in(value.strip())
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    raise ValueError(f"`{value!r}` is no number")


def _number_in(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return number_of(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError(f"`{text[:50]}` is neither a number nor a time (ISO 8601)") from None
