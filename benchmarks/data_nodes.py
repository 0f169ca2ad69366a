"""Rows per second and peak memory of every data node, at 35 thousand and at a million rows.

Each node runs as the stage that DVC would run, a process of its own: its seconds hold the start of
Python and the reading and digesting of what came before, its memory is the process's largest
resident set. The million are the 35 thousand reviews, each copied with 0 to 30 % of its characters
replaced, so that everything is there: equal, nearly equal and different texts.

    python -m benchmarks.data_nodes [--rows 35124 1000000] [--scratch DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.results import Row, write_results
from noria.data.samples import copy_sample

ROOT = Path(__file__).parent.parent
NODES = (
    ("ingest",),
    ("preprocess",),
    ("check",),
    ("clean",),
    ("check", "--again"),
    ("augment",),
    ("split",),
)
SIZES = (35_124, 1_000_000)
PEAK_BAR_MB = 1_500
_PARAMS = """\
name: benchmark
scenario: text-classification
source: {path: sources/reviews, label_from: file}
augment: {share: 0.2}
"""
_SUITE = "expectations/text-classification.yaml"


@dataclass(frozen=True)
class Measured:
    """One process."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure_node(node: tuple[str, ...], *, workspace: Path) -> Measured:
    """Run one stage and wait for it; its own largest resident set, from the kernel."""
    name, *options = node
    command = [sys.executable, "-m", f"tasks.{name}", "-C", str(workspace), *options]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "GX_ANALYTICS_ENABLED": "false"})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return Measured(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def make_workspace(workspace: Path, num_rows: int) -> None:
    """A workspace with `num_rows` reviews, the first 35,124 as they are and the rest noisy copies."""
    (workspace / "expectations").mkdir(parents=True)
    (workspace / "params.yaml").write_text(_PARAMS, encoding="utf-8")
    shutil.copy(ROOT / _SUITE, workspace / _SUITE)
    copy_sample("text-classification", workspace / "sources" / "reviews")
    generator = np.random.default_rng(0)
    files = sorted((workspace / "sources" / "reviews").glob("*.txt"))
    texts = {file: [line for line in file.read_text("utf-8").split("\n") if line] for file in files}
    alphabet = np.array(list("".join(line for lines in texts.values() for line in lines)))
    to_add = num_rows - sum(map(len, texts.values()))
    for file, lines in texts.items():
        with file.open("a", encoding="utf-8") as out:
            for line in _noisy(lines, to_add // len(files), alphabet, generator):
                out.write(f"\n{line}")


def _noisy(lines: list[str], count: int, alphabet: np.ndarray, generator: np.random.Generator) -> Iterator[str]:
    for index in range(count):
        characters = np.array(list(lines[index % len(lines)]))
        replaced = generator.random(len(characters)) < generator.uniform(0, 0.3)
        characters[replaced] = generator.choice(alphabet, replaced.sum())
        yield "".join(characters)


def ledger(workspace: Path) -> str:
    """Rows after each stage."""
    counts = []
    for name in ("raw", "preprocessed", "cleaned", "augmented", "splits"):
        manifest = json.loads((workspace / "data" / name / "manifest.json").read_text())
        counts.append(f"{name} {manifest['ledger']['rows_out']:,}")
    return " → ".join(counts)


def rows_of(measured: Measured, *, name: str, num_rows: int) -> list[Row]:
    """What a node's process took; CPU time too, which says more on a machine that others use."""
    print(
        f"{name}: {measured.seconds:.1f} s, {measured.cpu_seconds:.1f} s of CPU, {measured.peak_mb:,.0f} MB", flush=True
    )
    return [
        Row(f"speed of {name}", "rows/s", round(num_rows / measured.seconds)),
        Row(f"speed of {name}", "rows per CPU second", round(num_rows / measured.cpu_seconds)),
        Row(f"peak memory of {name}", "MB", round(measured.peak_mb), bar=PEAK_BAR_MB, higher_is_better=False),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES)
    parser.add_argument("--scratch", type=Path, help="where the workspaces are made (default: a temporary directory)")
    args = parser.parse_args()
    rows: list[Row] = []
    for num_rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
            workspace = Path(scratch) / "workspace"
            make = get_context("spawn").Process(target=make_workspace, args=(workspace, num_rows))
            make.start()  # a child's resident set counts from its parent's: ours stays small
            make.join()
            for node in NODES:
                measured = measure_node(node, workspace=workspace)
                rows += rows_of(measured, name=f"{' '.join(node)}, {num_rows:,} rows", num_rows=num_rows)
            print(ledger(workspace))
    print(write_results("data_nodes", rows, packages=("pyarrow", "numpy", "great-expectations", "ftfy")))


if __name__ == "__main__":
    main()
