"""Write docs/benchmarks.md from benchmarks/results/*.json.

python -m benchmarks.table
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.results import RESULTS

TARGET = RESULTS.parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python -m benchmarks.table` from `benchmarks/results/`; each section is one file of `benchmarks/`. Medians
where repeated. With a peer, the bar is for the ratio ours / theirs; without one it is a bound that we must keep. What
misses its bar stays here and says so.
"""


def table() -> str:
    """The whole page."""
    return HEAD + "".join(_section(path) for path in sorted(RESULTS.glob("*.json")))


def _section(path: Path) -> str:
    results = json.loads(path.read_text(encoding="utf-8"))
    machine = results["machine"]
    devices = "".join(f", {machine[name]}" for name in machine if name not in ("cores", "memory_gib", "machine"))
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"\n## {path.stem}\n",
        f"{machine['cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['machine']}{devices}; {versions}.\n",
        "| claim | ours | peer | theirs | ratio | bar | |",
        "|---|---:|---|---:|---:|---:|---|",
        *(_row(row) for row in results["rows"]),
    ]
    return "\n".join(lines) + "\n"


def _row(row: Mapping[str, object]) -> str:
    theirs = "" if row["theirs"] is None else f"{row['theirs']:,} {row['unit']}"
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    bar = "" if row["bar"] is None else f"{'≥' if row['higher_is_better'] else '≤'} {row['bar']:,}"
    cells = (row["claim"], f"{row['ours']:,} {row['unit']}", row["peer"] or "", theirs, ratio, bar, _verdict(row))
    return f"| {' | '.join(map(str, cells))} |"


def _verdict(row: Mapping[str, object]) -> str:
    if row["bar"] is None:
        return ""
    if not row.get("reached", True):
        return "**missed**"
    measured = float(str(row["ours"] if row["ratio"] is None else row["ratio"]))
    bar = float(str(row["bar"]))
    kept = measured >= bar if row["higher_is_better"] else measured <= bar
    return "kept" if kept else "**missed**"


if __name__ == "__main__":
    TARGET.write_text(table(), encoding="utf-8")
    print(TARGET)
