"""Answers as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

LINES = "application/x-ndjson"
_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


def line_of(fields: Mapping[str, object]) -> bytes:
    """One line, also for clients to whom a line ends at more than a line feed."""
    return json.dumps(fields, ensure_ascii=False).translate(_ENDS).encode() + b"\n"
