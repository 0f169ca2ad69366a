"""What it costs to have a run orchestrated: everything that is not a node's own work.

python -m benchmarks.orchestration [WORKSPACE]

A run's own work is the time inside its nodes' functions, as the stages' events have it. Without an
argument a new workspace on the sample data is run first; with one, what is stale there is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Row, write_results

REPEATS = 3
BARS_S = {"second": 12.0, "repro": 3.0, "help": 0.5}
_BIN = Path(sys.executable).parent
_EFFECTS = ("deploy", "update")


def seconds_of(*command: str, cwd: Path) -> float:
    """Wall-clock seconds of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def median_s(*command: str, cwd: Path) -> float:
    """Median of `REPEATS`."""
    return round(statistics.median(seconds_of(*command, cwd=cwd) for _ in range(REPEATS)), 2)


def nodes_of_last_run(root: Path) -> list[dict[str, object]]:
    """What the runner noted, node by node."""
    lines = [json.loads(line) for line in (root / ".noria" / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if line["run"] == lines[-1]["run"]]


def overhead(root: Path, run_s: float) -> list[Row]:
    """Of one run: seconds that were no node's work, in all and for the median node that ran."""
    nodes = nodes_of_last_run(root)
    extra = [float(str(node["seconds"])) - float(str(node["own_s"])) for node in nodes if node["state"] == "ran"]
    own_s = sum(float(str(node["own_s"])) for node in nodes)
    return [
        Row(f"a run of {len(nodes)} nodes: not their work", "s", round(run_s - own_s, 2), higher_is_better=False),
        Row("a node that runs: not its work", "s", round(statistics.median(extra), 2), higher_is_better=False),
    ]


def measure(root: Path) -> list[Row]:
    """All rows, in a workspace that `noria init` made."""
    noria, dvc = str(_BIN / "noria"), str(_BIN / "dvc")
    rows = overhead(root, seconds_of(noria, "run", cwd=root))
    second = median_s(noria, "run", cwd=root)
    cached = [float(str(node["seconds"])) for node in nodes_of_last_run(root) if node["stage"] not in _EFFECTS]
    commands = {
        "noria run, nothing changed": (second, BARS_S["second"]),
        "dvc repro, nothing changed": (median_s(dvc, "repro", "--quiet", cwd=root), BARS_S["repro"]),
        "noria --help": (median_s(noria, "--help", cwd=root), BARS_S["help"]),
        "noria plan": (median_s(noria, "plan", cwd=root), None),
    }
    rows.append(Row("a node from the cache", "s", round(statistics.median(cached), 2), higher_is_better=False))
    rows += [
        Row(claim, "s", seconds, bar=bar, higher_is_better=False, repeats=REPEATS)
        for claim, (seconds, bar) in commands.items()
    ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", nargs="?", type=Path)
    given = parser.parse_args().workspace
    with tempfile.TemporaryDirectory() as directory:
        root = given or Path(directory)
        subprocess.run([str(_BIN / "noria"), "init", str(root)], check=True)
        rows = measure(root)
    for row in rows:
        print(f"{row.claim:<40} {row.ours:>8} {row.unit}" + (f"  (bar {row.bar})" if row.bar else ""))
    print(write_results("orchestration", rows, packages=("prefect", "dvc")))


if __name__ == "__main__":
    main()
