"""Our server against others that serve the same model, and under ten times what it can do.

    noria run && make peers                       # the model; .venv-bench with LitServe
    python -m benchmarks.serving                  # about ten minutes
    python -m benchmarks.serving --tiny           # a minute: whether it runs at all; records nothing

Each server is a process of its own, started anew for each turn; they take turns, and the load comes
from another process. 64 clients ask for one review of the validation set each, in turn, as soon as
they have their answer; nothing is counted in the first fifth of the time. All answer with the same
weights and the same encoder. A peer that is not installed is left out, and said to be.
BentoML can't be locked beside LitServe: `python -m venv bento`, install bentoml==1.4.40 and Noria's `serve` and `text`
extras there, and give `--peers-python .venv-bench/bin/python --peers-python bento/bin/python`.

Overload: requests of 16 reviews come at ten times the rate that four clients in turn reach, whatever
becomes of them, and are compared with half of that rate, on a server whose `max_wait_ms` is 15.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.results import Row, write_results
from benchmarks.servers.server import OURS, PEERS, PEERS_PYTHON, Running, Server, running
from noria.evaluation.judged import read_validation
from noria.workspace import Workspace

CLIENTS = 64
BARS = {"FastAPI + PyTorch": 3.0, "LitServe, same ONNX file": 1.3, "BentoML, same ONNX file": 1.3}
ROWS_AT_ONCE = 16
MOST_TEXTS = 1_000
OVERLOAD = replace(OURS, settings={"max_wait_ms": 15})
Load = Mapping[str, float]


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        workspace = _workspace(args, scratch)
        texts = [str(row["text"]) for row in read_validation(workspace.splits)][:MOST_TEXTS]
        servers = _present(args.peers_python or [PEERS_PYTHON])
        loads = _take_turns(servers, workspace, texts, args=args, scratch=scratch)
        rows = [*_against(loads, repeats=args.repeats), *_overloaded(workspace, texts, args=args, scratch=scratch)]
    for row in rows:
        against = f"  {row.peer}: {row.theirs:,} (ratio {row.ratio})" if row.peer else ""
        print(f"{row.claim:<66} {row.ours:>9,} {row.unit}{against}")
    if not args.tiny:
        print(write_results("serving", rows, packages=("onnxruntime", "fastapi", "uvicorn", "torch")))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, one turn of two seconds")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers-python", type=Path, action="append", help="where peers are, before others")
    args = parser.parse_args()
    if args.tiny:
        args.seconds, args.repeats = 2.0, 1
    return args


def _workspace(args: argparse.Namespace, scratch: Path) -> Workspace:
    if not args.tiny:
        return Workspace.at(args.directory)
    from benchmarks.servers.tiny_workspace import make_tiny_workspace

    root = scratch / "tiny"
    root.mkdir()
    return make_tiny_workspace(root)


def _present(peers_pythons: Sequence[Path]) -> dict[Server, Path]:
    """Ours and the peers that are installed, each with its interpreter."""
    found: dict[Server, Path] = {}
    for server in (OURS, *PEERS):
        python = server.python(peers_pythons)
        if python is None:
            print(f"left out: {server.name} is not installed in {', '.join(map(str, peers_pythons))}")
        else:
            found[server] = python
    return found


def _take_turns(
    servers: Mapping[Server, Path],
    workspace: Workspace,
    texts: Sequence[str],
    *,
    args: argparse.Namespace,
    scratch: Path,
) -> dict[str, list[Load]]:
    """A B C A B C: what else the machine does falls on all of them alike."""
    loads: dict[str, list[Load]] = {server.name: [] for server in servers}
    for _ in range(args.repeats):
        for server, python in servers.items():
            bodies = _write(scratch / "bodies.jsonl", [server.body(text) for text in texts])
            with _started(server, workspace, bodies, python) as answering:
                loads[server.name].append(answering.load(bodies, clients=CLIENTS, seconds=args.seconds))
            print(f"{server.name}: {loads[server.name][-1]}", flush=True)
    return loads


def _started(server: Server, workspace: Workspace, bodies: Path, python: Path) -> AbstractContextManager[Running]:
    first = bodies.read_bytes().splitlines()[0]
    return running(server, workspace.bundle.parent, first=first, python=python)


def _against(loads: Mapping[str, Sequence[Load]], *, repeats: int) -> list[Row]:
    ours = loads[OURS.name]
    rows = []
    for name, theirs in loads.items():
        if name == OURS.name:
            continue
        claims = (("requests/s", "answered_per_s", BARS[name], True), ("p99", "p99_ms", 1.0, False))
        for what, key, bar, higher in claims:
            rows.append(
                Row(
                    f"{CLIENTS} clients, mixed lengths: {what}",
                    "ms" if key.endswith("_ms") else "requests/s",
                    _median(ours, key),
                    name,
                    _median(theirs, key),
                    bar=bar,
                    higher_is_better=higher,
                    repeats=repeats,
                )
            )
    return rows


def _overloaded(workspace: Workspace, texts: Sequence[str], *, args: argparse.Namespace, scratch: Path) -> list[Row]:
    """Ours alone: what becomes of those who are let in, of those who are not, and of memory."""
    inputs = [[{"text": text} for text in texts[i : i + ROWS_AT_ONCE]] for i in range(0, len(texts), ROWS_AT_ONCE)]
    bodies = _write(scratch / "many.jsonl", [{"inputs": rows} for rows in inputs])
    calm: list[Load] = []
    busy: list[Load] = []
    growth: list[float] = []
    lower: Mapping[str, Any] = {"higher_is_better": False, "repeats": args.repeats}
    for _ in range(args.repeats):
        with _started(OURS, workspace, bodies, Path(sys.executable)) as answering:
            rate = answering.load(bodies, clients=CLIENTS // ROWS_AT_ONCE, seconds=args.seconds)["answered_per_s"]
        with _started(OVERLOAD, workspace, bodies, Path(sys.executable)) as answering:
            calm.append(answering.load(bodies, clients=CLIENTS, seconds=args.seconds, rate=rate / 2))
            before_mib = answering.memory_mib
            busy.append(_overload(answering, bodies, rate=10 * rate, seconds=args.seconds))
            growth.append(answering.memory_mib / before_mib)
        print(f"sustained {rate:.0f}/s; at half: {calm[-1]}; at ten times: {busy[-1]}", flush=True)
    grown = round(statistics.median(growth), 3)
    return [
        _bound("overload, 10 times the sustained rate: p99 of those let in", busy, calm),
        Row("overload: refusals that are no clean 429 or 503", "requests", _median(busy, "unclean"), bar=0.0, **lower),
        Row("overload: memory after it, against before", "times", grown, bar=1.1, **lower),
        _answered(busy, calm),
    ]


def _answered(busy: Sequence[Load], calm: Sequence[Load]) -> Row:
    key = "answered_per_s"
    claim = "overload: requests of 16 rows answered"
    return Row(claim, "requests/s", _median(busy, key), "half the rate", _median(calm, key), repeats=len(busy))


def _overload(answering: Running, bodies: Path, *, rate: float, seconds: float) -> Load:
    return answering.load(bodies, clients=10 * CLIENTS, seconds=seconds, rate=rate)


def _bound(claim: str, busy: Sequence[Load], calm: Sequence[Load]) -> Row:
    return Row(
        claim,
        "ms",
        _median(busy, "p99_ms"),
        "half the rate",
        _median(calm, "p99_ms"),
        bar=2.0,
        higher_is_better=False,
        repeats=len(busy),
    )


def _median(loads: Sequence[Load], key: str) -> float:
    return round(statistics.median(load[key] for load in loads), 2)


def _write(path: Path, bodies: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(body, ensure_ascii=False) + "\n" for body in bodies), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
