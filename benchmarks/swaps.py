"""A hundred versions go live under load: does a request fail, do two versions speak in one answer, does one wait?

    noria run && python -m benchmarks.swaps       # about ten minutes
    python -m benchmarks.swaps --tiny             # a minute: whether it runs at all; records nothing

`noria serve` follows a store of its own with three versions, which are promoted in turn, so that each is fetched,
proven and loaded anew. Requests of four rows come from another process at a rate that the server holds with ease.
Seconds are from the promotion to the first time that /readyz names the version.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import httpx
import yaml

from benchmarks.peers.contender import REPOSITORY
from benchmarks.results import Row, write_results
from benchmarks.servers.tiny_workspace import make_tiny_workspace
from benchmarks.servers.witness import Answer
from noria.artifacts import MANIFEST, read_artifact, write_artifact
from noria.evaluation.judged import read_validation
from noria.serving.bundle import CONFIG, version_of
from noria.serving.store import ModelStore, store_of
from noria.workspace import Workspace

_VERSIONS, _ROWS_AT_ONCE, _CLIENTS = 3, 4, 16
_LONGEST_SWAP_S = 60.0
_BETWEEN_S = 0.5


@dataclass(frozen=True)
class Swap:
    """When a version was promoted, and when the server first named it."""

    promoted_s: float
    served_s: float


def versions_in(store: ModelStore, bundle: Path, scratch: Path) -> list[str]:
    """The bundle, and others that answer the same: their settings differ in a space."""
    published = []
    for number in range(_VERSIONS):
        copy = scratch / f"bundle{number}"
        with write_artifact(copy, kind="bundle") as draft:
            shutil.copytree(bundle, draft.path, dirs_exist_ok=True)
            (draft.path / MANIFEST).unlink()
            with (draft.path / CONFIG).open("a", encoding="utf-8") as file:
                file.write(" " * number)
        published.append(version_of(store.publish(read_artifact(copy).path)))
    return published


@contextmanager
def served(workspace: Workspace) -> Iterator[str]:
    """The URL of `noria serve` on the workspace."""
    command = [sys.executable, "-m", "noria.cli", "serve", "--port", "0", "-C", str(workspace.root)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert found, "noria serve did not start"
        try:
            yield found.group()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@contextmanager
def witnessed(url: str, bodies: Path, output: Path, *, rate: float) -> Iterator[None]:
    """Clients that ask all the time, in a process of their own; `output` is there at the end of the block."""
    command = [sys.executable, "-m", "benchmarks.servers.witness", f"{url}/predict", str(bodies), str(output)]
    command += ["--clients", str(_CLIENTS), "--rate", str(rate)]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def swap(store: ModelStore, version: str, url: str) -> Swap:
    """Promote, and wait until it is served."""
    promoted_s = time.time()
    store.promote(version, reason="benchmark", over=store.production())
    while httpx.get(f"{url}/readyz", timeout=30).json()["model_version"] != version:
        assert time.time() < promoted_s + _LONGEST_SWAP_S, f"{version} was not served"
        time.sleep(0.02)
    return Swap(promoted_s, time.time())


def results(answers: Sequence[Answer], swaps: Sequence[Swap], *, calm_until_s: float, most_ratio: float) -> list[Row]:
    """What went wrong, and what the answers of a swap waited beside those of the calm before."""
    failed = sum(status != 200 for _, _, status, _ in answers)
    mixed = sum(status == 200 and len(versions) != 1 for _, _, status, versions in answers)
    calm = [came_s - asked_s for asked_s, came_s, _, _ in answers if came_s < calm_until_s]
    during = [
        came_s - asked_s
        for asked_s, came_s, _, _ in answers
        if any(one.promoted_s <= came_s and asked_s <= one.served_s for one in swaps)
    ]
    spoken = {version for _, _, _, versions in answers for version in versions}
    assert len(spoken) == _VERSIONS, f"only {spoken} answered"
    about = f"{len(swaps)} swaps under load, {len(answers):,} answers"
    took_s = round(statistics.median(one.served_s - one.promoted_s for one in swaps), 2)
    return [
        Row(f"{about}: requests that failed", "requests", failed, bar=0, higher_is_better=False),
        Row(f"{about}: answers of mixed versions", "answers", mixed, bar=0, higher_is_better=False),
        Row(
            f"{about}: p99 during a swap",
            "ms",
            round(1_000 * _p99(during), 2),
            "before them",
            round(1_000 * _p99(calm), 2),
            bar=most_ratio,
            higher_is_better=False,
            repeats=len(swaps),
        ),
        Row(f"{about}: from promotion to service, median", "s", took_s, higher_is_better=False, repeats=len(swaps)),
    ]


def _p99(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


def measure(workspace: Workspace, scratch: Path, *, num_swaps: int, calm_s: float, rate: float) -> list[Row]:
    """The calm, then one swap after another."""
    params = yaml.safe_load(workspace.params.read_text(encoding="utf-8"))
    params |= {"deploy": {"store": str(scratch / "store")}, "serve": {"access_log": False}}
    (scratch / "ws").mkdir()
    (scratch / "ws" / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")
    server = Workspace.at(scratch / "ws")
    store = store_of(server)
    published = versions_in(store, workspace.bundle, scratch)
    store.promote(published[0], reason="benchmark", over=None)
    rows = [{"text": str(row["text"])} for row in read_validation(workspace.splits)][:400]
    bodies, output = scratch / "bodies.jsonl", scratch / "answers.jsonl"
    with bodies.open("w", encoding="utf-8") as file:
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            file.write(json.dumps({"inputs": rows[start : start + _ROWS_AT_ONCE]}, ensure_ascii=False) + "\n")
    with served(server) as url, witnessed(url, bodies, output, rate=rate):
        time.sleep(calm_s)
        calm_until_s, swaps = time.time(), []
        for number, version in enumerate(islice(cycle([*published[1:], published[0]]), num_swaps), 1):
            swaps.append(swap(store, version, url))
            if number % 10 == 0:
                print(f"{number} of {num_swaps} swaps", flush=True)
            time.sleep(_BETWEEN_S)
    answers = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return results(answers, swaps, calm_until_s=calm_until_s, most_ratio=3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, six swaps")
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=50.0, help="requests of four rows a second")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        if args.tiny:
            (scratch / "tiny").mkdir()
            workspace, num_swaps, calm_s = make_tiny_workspace(scratch / "tiny"), 6, 5.0
        else:
            workspace, num_swaps, calm_s = Workspace.at(args.directory), args.swaps, 30.0
        rows = measure(workspace, scratch, num_swaps=num_swaps, calm_s=calm_s, rate=args.rate)
    for row in rows:
        against = f"  {row.peer}: {row.theirs} (ratio {row.ratio})" if row.peer else ""
        print(f"{row.claim}: {row.ours} {row.unit}{against}")
    if not args.tiny:
        print(write_results("swaps", rows, packages=("onnxruntime", "fastapi", "uvicorn")))


if __name__ == "__main__":
    main()
