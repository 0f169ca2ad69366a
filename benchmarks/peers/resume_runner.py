"""Runs, kills and damages the trainings of the kill-and-resume benchmark, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers.contender import PYTHON, REPOSITORY
from benchmarks.peers.resume_plan import Plan, Report
from noria.errors import TrainingError

_TIMEOUT_S = 900.0
_KILLED = -9
_LAST_LINES = 15


@dataclass(frozen=True)
class Side:
    """A contender; `checkpoints` matches its checkpoint files below the directory."""

    name: str
    module: str
    checkpoints: str
    resumable_loader: bool = False


@dataclass(frozen=True)
class Finished:
    """A process that ended; `report` is None when it was killed or failed, `told` the end of what it said."""

    exit_code: int
    report: Report | None
    weights: Path
    told: str


class Runner:
    """Runs processes of the contenders, with directories below `root`."""

    def __init__(self, workload: Path, root: Path, *, plan: Plan, python: Path = PYTHON) -> None:
        self._workload, self._root, self._plan, self._python = workload, root, plan, python

    def directory(self, side: Side, name: str) -> Path:
        """Of the checkpoints of one training."""
        return self._root / side.name.replace(" ", "-") / name

    def run(
        self, side: Side, name: str, *, resume: bool = False, kill: bool = False, first_step_only: bool = False
    ) -> Finished:
        """One process, to its end."""
        directory = self.directory(side, name)
        directory.mkdir(parents=True, exist_ok=True)
        weights = directory.with_suffix(".safetensors")
        plan = asdict(self._plan) | {
            "directory": str(directory),
            "weights": str(weights),
            "resume": resume,
            "kill_after_steps": self._plan.kill_after_steps if kill else 0,
            "first_step_only": first_step_only,
            "resumable_loader": side.resumable_loader,
            "started_at": time.time(),
        }
        command = [str(self._python), "-m", side.module, str(self._workload.resolve()), "--plan", json.dumps(plan)]
        threads = str(self._plan.threads)
        quiet = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **quiet, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        lines = done.stdout.strip().splitlines()
        report = Report.from_json(lines[-1]) if done.returncode == 0 else None
        told = "\n".join(done.stderr.splitlines()[-_LAST_LINES:])
        print(f"{side.name}, {name}: exit code {done.returncode}", flush=True)
        return Finished(done.returncode, report, weights, told)

    def need(self, side: Side, name: str, *, resume: bool = False, first_step_only: bool = False) -> Finished:
        """A process that must end well.

        Raises
        ------
        TrainingError
            When it does not; with the end of its standard error.
        """
        finished = self.run(side, name, resume=resume, first_step_only=first_step_only)
        if finished.report is None:
            raise TrainingError(f"{side.name} ended with {finished.exit_code}:\n{finished.told}", where=name)
        return finished

    def copy(self, side: Side, name: str, *, to: str) -> Path:
        """The checkpoints of a training under another name."""
        target = self.directory(side, to)
        shutil.copytree(self.directory(side, name), target)
        return target


def kill(side: Side, runner: Runner) -> None:
    """A training that ends by SIGKILL and leaves its checkpoints."""
    killed = runner.run(side, "killed", kill=True)
    if killed.exit_code != _KILLED:
        raise TrainingError(f"{side.name} ended with {killed.exit_code}, not by SIGKILL:\n{killed.told}")


def newest(directory: Path, pattern: str) -> Path:
    """The largest file of the newest checkpoint."""
    files = [path for path in directory.glob(pattern) if path.is_file()]
    last = max(files, key=lambda path: path.stat().st_mtime_ns)
    together = files if "/" in pattern else [last]  # a checkpoint is a folder, or a file
    return max((path for path in together if path.parent == last.parent), key=lambda path: path.stat().st_size)


def halve(path: Path) -> None:
    """What a crash in the middle of writing, or a full disk, leaves."""
    os.truncate(path, path.stat().st_size // 2)
