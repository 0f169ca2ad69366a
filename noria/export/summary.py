"""The optimization report in words, read without torch: the flow shows it at every run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

METRICS, TABLE, PICTURE = "metrics.json", "candidates.csv", "candidates.png"


def optimization_markdown(path: Path) -> str:
    """The reason in words, and the table."""
    values = json.loads((path / METRICS).read_text(encoding="utf-8"))
    with (path / TABLE).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    lines = [f"**{values['candidate']}** becomes the bundle. {values['reason']}.", ""]
    for name, made in values.get("compress", {}).items():
        told = f"{made['how']} ({made['seconds']:.0f} s)" if "how" in made else f"can't be made: {made['failed']}"
        lines += [f"`{name}`: {told}.", ""]
    lines += [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"
