"""What becomes of runs whose worker, flow, server, database or S3 is killed with SIGKILL at a random moment.

python -m benchmarks.chaos [--kills 20] [--seed 0]

Every kill falls into a whole run, from the sources to a first version that goes live, of a model with a name and a
seed of its own. What was killed is started again as systemd would. Then all runs must come to a final state by
themselves, the next run must go on to the end, and exactly one promotion must be in the journal.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from benchmarks.results import Row, write_results
from benchmarks.services import Postgres, Service, prefect_server, quiet, s3, watch, worker
from noria.serving.bundle import read_bundle, version_of
from noria.serving.store import store_of
from noria.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGETS = ("flow", "stage", "worker", "server", "database", "s3")
STORE, NAME = "s3://models/store", "chaos"
ENDS_S = 90.0
"""A run whose process is gone has its final state within this, whatever else was killed."""
_RUN_S = 600.0
_DOWN_S = 5.0
_MOST_RUNS = 4
Answer = Any
"""JSON of Prefect's API."""
_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_TINY = {
    "model": {"layers": 1, "dim": 16, "heads": 2, "feed_forward_dim": 32},
    "tokenizer": {"vocabulary_size": 200},
    "train": {"epochs": 20, "threads": 1, "pretrain": {"epochs": 0}},
    "evaluate": {"resamples": 200, "min_slice_rows": 5},
    "optimize": {"candidates": ["fp32"], "latency_repeats": 10, "max_quality_drop": 0.2, "max_slice_drop": 1.0},
    "deploy": {"store": STORE},
}


@dataclass(frozen=True)
class Killed:
    """One kill and what came of it.

    Attributes
    ----------
    target, at_s:
        What was killed, and how long after the run was asked for.
    states:
        How the runs ended: the one that was hit, and those after it up to the one that completed.
    marked_s:
        Seconds from the death of the run's process to its final state; 0 where it reported its end itself.
    promotions:
        In the journal of the model.
    """

    target: str
    at_s: float
    states: tuple[str, ...]
    marked_s: float
    promotions: int


class Stack:
    """The services, a workspace whose runs they serve, and what is asked of them."""

    def __init__(self, directory: Path, root: Path) -> None:
        self.workspace = Workspace.at(root)
        self.database = Postgres()
        self.s3, self.env = s3(directory / "s3")
        self.server, self.api = prefect_server(directory / "prefect", database_url=self.database.url)
        self.worker = worker(directory / "worker", self.api, **self.env)
        self.watch = watch(directory / "watch", self.api, **self.env)
        os.environ.update(self.env)

    @property
    def services(self) -> Sequence[Service]:
        return (self.s3, self.server, self.worker, self.watch)

    def start(self) -> None:
        """Start everything, and register the workspace's flow."""
        self.s3.start()
        import s3fs

        s3fs.S3FileSystem().mkdir(STORE.split("/")[2])
        self.server.start()
        self.ask("work_pools/", {"name": "noria", "type": "process"})
        self.ask("work_pools/noria/queues", {"name": "cpu"})
        settings = yaml.safe_load((self.workspace.root / "prefect.yaml").read_text())
        (ours,) = (one for one in settings["deployments"] if one["entrypoint"] == "flows.pipeline.pipeline")
        ours["name"] = NAME
        (self.workspace.root / "prefect.yaml").write_text(yaml.safe_dump({"pull": [], "deployments": [ours]}))
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        root = str(self.workspace.root)
        subprocess.run(command, cwd=root, env=quiet(PREFECT_API_URL=self.api, PWD=root), check=True)
        self.worker.start()
        self.watch.start()

    def end(self) -> None:
        for service in reversed(self.services):
            service.end()
        self.database.end()

    def ask(self, path: str, body: object = None) -> Answer:
        """The server's answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def begin(self) -> str:
        """Ask for a run; its id."""
        deployment = self.ask(f"deployments/name/pipeline/{NAME}")["id"]
        return str(self.ask(f"deployments/{deployment}/create_flow_run", {})["id"])

    def run(self, run: str) -> Answer:
        """A run as the server knows it, or None while it can't say."""
        try:
            return self.ask(f"flow_runs/{run}")
        except (OSError, ValueError):
            return None

    def kill(self, target: str, run: str) -> None:
        """Kill it, and start it again a little later, if it is not there for one run only."""
        if target in ("flow", "stage"):
            for process in self._processes(run, stage=target == "stage"):
                process.kill()
            return
        service = getattr(self, target)
        service.kill()
        time.sleep(_DOWN_S)
        service.start()

    def process_of(self, run: str) -> psutil.Process | None:
        """The process of a flow run, if it lives."""
        found = self.run(run)
        try:
            return psutil.Process(found["labels"]["noria.pid"]) if found else None
        except (KeyError, psutil.NoSuchProcess):
            return None

    def _processes(self, run: str, *, stage: bool) -> list[psutil.Process]:
        """The run's process, or that of the stage at work; none when there is none yet, or any more."""
        flow = self.process_of(run)
        if flow is None:
            return []
        return [one for one in flow.children() if "tasks." in " ".join(one.cmdline())] if stage else [flow]


def wait(stack: Stack, run: str) -> tuple[str, float]:
    """How a run ended, and how long after its process was gone that was known. Keeps the services alive meanwhile.

    Raises
    ------
    TimeoutError
        When it does not end.
    """
    until, gone_at = time.monotonic() + _RUN_S, None
    while time.monotonic() < until:
        for service in stack.services:
            service.keep()
        found = stack.run(run)
        if found and found["state"]["type"] in _FINAL:
            return found["state"]["type"], time.monotonic() - gone_at if gone_at else 0.0
        if found and gone_at is None and found["labels"].get("noria.pid") and stack.process_of(run) is None:
            gone_at = time.monotonic()
        time.sleep(0.5)
    raise TimeoutError(f"run {run} is {stack.run(run)} after {_RUN_S:g} s")


def disturb(stack: Stack, number: int, draw: random.Random, *, run_s: float, target: str) -> Killed:
    """A new model, one run with a kill in it, and runs until one completes."""
    params = stack.workspace.params
    values = yaml.safe_load(params.read_text())
    params.write_text(yaml.safe_dump({**values, "name": f"{NAME}{number}", "seed": number}, allow_unicode=True))
    run, at_s = stack.begin(), draw.uniform(0.0, run_s)
    time.sleep(at_s)
    stack.kill(target, run)
    states, marked = [], []
    while "COMPLETED" not in states and len(states) < _MOST_RUNS:
        state, marked_s = wait(stack, run)
        states.append(state)
        marked.append(marked_s)
        run = stack.begin() if state != "COMPLETED" else run
    return Killed(target, round(at_s, 1), tuple(states), round(max(marked), 1), promotions(stack.workspace.root))


def promotions(root: Path) -> int:
    """Of the model in the store; 0 also where something else is live than the workspace's bundle."""
    workspace = Workspace.at(root)  # its name was changed
    store, version = store_of(workspace), version_of(read_bundle(workspace.bundle))
    live = store.production()
    if live is None or live.version != version:
        return 0
    return sum(event.kind == "promoted" for event in store.journal.events())


def undisturbed_s(stack: Stack) -> float:
    """Seconds of a run that nobody disturbs: any moment of it may be that of a kill."""
    began = time.monotonic()
    state, _ = wait(stack, stack.begin())
    assert state == "COMPLETED", state
    return time.monotonic() - began


def chaos(stack: Stack, *, kills: int, seed: int, run_s: float) -> list[Killed]:
    """So many kills within `run_s` of a run's begin, of each target in turn, in a random order."""
    draw, targets, done = random.Random(seed), list[str](), []
    for number in range(1, kills + 1):
        targets = targets or draw.sample(TARGETS, len(TARGETS))
        done.append(disturb(stack, number, draw, run_s=run_s, target=targets.pop()))
        print(done[-1], flush=True)
    return done


def unfinished(stack: Stack) -> int:
    """Runs that are in no final state."""
    states = {"type": {"not_any_": list(_FINAL)}}
    return len(stack.ask("flow_runs/filter", {"flow_runs": {"state": states}}))


def make_workspace(root: Path) -> Path:
    """`noria init` on 300 reviews that were made up, and a tiny model."""
    root.mkdir(parents=True)
    draw = random.Random(0)
    common, moods = (
        "这个东西家人酒店电脑屏幕价格收到包装感觉总体房间早餐键盘",
        {"neg": "太差失望退货糟糕", "pos": "很好喜欢满意推荐"},
    )
    rows = [
        ("".join(draw.choices(common, k=20) + draw.choices(moods[label], k=8)), label) for label in ("neg", "pos") * 150
    ]
    with (root / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    noria("init", str(root), "--source", str(root / "rows.csv"))
    tune(root)
    return root


def tune(root: Path) -> None:
    """The settings of a tiny model, and of the store on S3."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in _TINY.items():
        params[section] = {**(params.get(section) or {}), **values}
    (root / "params.yaml").write_text(yaml.safe_dump({**params, "name": NAME, "seed": 0}, allow_unicode=True))


def noria(*arguments: str) -> None:
    """Run the command line; it must succeed."""
    subprocess.run([sys.executable, "-m", "noria.cli", *arguments], env=quiet(), check=True)


@contextmanager
def running(directory: Path, root: Path) -> Iterator[Stack]:
    """The stack for as long as the block runs."""
    stack = Stack(directory, root)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = make_workspace(Path(directory) / "ws")
        with running(Path(directory), root) as stack:
            killed = chaos(stack, kills=args.kills, seed=args.seed, run_s=undisturbed_s(stack))
            left = unfinished(stack)
            noria("verify", "-C", str(root))
    ended = sum(one.states[-1] == "COMPLETED" for one in killed)
    once = sum(one.promotions == 1 for one in killed)
    rows = [
        Row("kill -9 at random moments: the model went live without a hand", "of them", ended, bar=args.kills),
        Row("the same: promoted exactly once", "of them", once, bar=args.kills),
        Row("the same: runs left without a final state", "runs", left, bar=0, higher_is_better=False),
        Row(
            "a dead run is marked as crashed, at the latest",
            "s",
            max(one.marked_s for one in killed),
            bar=ENDS_S,
            higher_is_better=False,
            repeats=args.kills,
        ),
    ]
    print(write_results("chaos", rows, packages=("prefect", "dvc", "s3fs")))


if __name__ == "__main__":
    main()
