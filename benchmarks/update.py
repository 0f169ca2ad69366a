"""What an update costs when there is nothing to train, and what the stack holds while nothing happens.

    python -m benchmarks.update

A workspace on the sample reviews learns from all but some lines of both files; `noria up` then runs its stack. What
was held back arrives as new objects, eighty lines a time, too few for a training: measured are the seconds
from the moment that an object is there to the end of `noria update`, which has judged it, held the champion against
it and decided. Before the first arrives the processes of the stack are looked at: their proportional set size, in
which pages that several share count once.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.results import Row, write_results

_BIN = Path(sys.executable).parent
_LINES, _REPEATS = 80, 5
_BAR_S = 20.0
_NO_TRIGGERS = "\nupdate: {triggers: {drift: null, metric_drop: null}}\n"
"""All is looked at, and none of it starts a training: half of these lines are known, and the others no fair sample."""
_SETTLES_S = 45.0
_PARTS = ("server start", "worker start", "flows.watch", "noria.cli reports", "noria.cli serve")
_ANY_PORT = [part for name in ("--port", "--serve-port", "--reports-port") for part in (name, "0")]


def make_workspace(root: Path, held_back: Path) -> None:
    """A finished workspace on the sample, without some lines of its files, which lie in `held_back`."""
    noria = str(_BIN / "noria")
    subprocess.run([noria, "init", str(root)], check=True)
    for file in sorted((root / "sources" / "reviews").glob("*.txt")):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        step = len(lines) // (_LINES * _REPEATS)  # from everywhere: the files are sorted by what is reviewed
        (held_back / file.name).write_text("".join(lines[::step]), encoding="utf-8")
        del lines[::step]
        file.write_text("".join(lines), encoding="utf-8")
    params = root / "params.yaml"
    text = params.read_text(encoding="utf-8")
    assert "\nupdate: {}\n" in text
    params.write_text(text.replace("\nupdate: {}\n", _NO_TRIGGERS), encoding="utf-8")
    subprocess.run([noria, "run", "-C", str(root)], check=True)


def arrive(root: Path, held_back: Path, turn: int) -> None:
    """The lines of one turn, as a new object of each label."""
    for file in sorted(held_back.glob("*.txt")):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)[turn * _LINES : (turn + 1) * _LINES]
        place = root / "sources" / "reviews" / f"{turn:02d}"
        place.mkdir(exist_ok=True)
        (place / file.name).write_text("".join(lines), encoding="utf-8")


@contextmanager
def stack(root: Path) -> Iterator[psutil.Process]:
    """`noria up` in a workspace, once all of it is there."""
    command = [str(_BIN / "noria"), "up", "-C", str(root), *_ANY_PORT]
    path = root.parent / "up.log"
    with path.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=os.environ) as up:
        try:
            time.sleep(_SETTLES_S)
            assert up.poll() is None, path.read_text(errors="replace")
            yield psutil.Process(up.pid)
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(120)


def memory_mb(parent: psutil.Process) -> dict[str, float]:
    """Proportional set size of `noria up` and of each part of the stack, with all that it started; and of all."""
    found = {"up": parent.memory_full_info().pss / 1e6}
    for child in parent.children():
        command = " ".join(child.cmdline())
        (name,) = (part for part in _PARTS if part in command)
        found[name] = sum(one.memory_full_info().pss for one in (child, *child.children(recursive=True))) / 1e6
    return found | {"all": sum(found.values())}


def measure(root: Path, held_back: Path) -> list[Row]:
    seconds = []
    with stack(root) as parent:
        idle = memory_mb(parent)
        for turn in range(_REPEATS):
            arrive(root, held_back, turn)
            start_s = time.perf_counter()
            done = subprocess.run(
                [str(_BIN / "noria"), "update", "-C", str(root)], capture_output=True, text=True, check=False
            )
            seconds.append(time.perf_counter() - start_s)
            assert done.returncode == 0 and "Nothing to do" in done.stdout, done.stdout + done.stderr
    taken = round(statistics.median(seconds), 2)
    claim = f"{2 * _LINES} rows arrive: to the decision that there is nothing to do"
    rows = [Row(claim, "s", taken, bar=_BAR_S, higher_is_better=False, repeats=_REPEATS)]
    return rows + [
        Row(f"memory of the idle stack: {name}", "MB", round(value), higher_is_better=False)
        for name, value in idle.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root, held_back = Path(directory) / "reviews", Path(directory) / "held-back"
        held_back.mkdir()
        make_workspace(root, held_back)
        rows = measure(root, held_back)
    for row in rows:
        print(f"{row.claim:<70} {row.ours:>8,} {row.unit}" + (f"  (bar {row.bar})" if row.bar else ""))
    print(write_results("update", rows, packages=("prefect", "dvc", "great-expectations")))


if __name__ == "__main__":
    main()
