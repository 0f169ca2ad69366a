"""A tiny workspace with something to search. As a script: searches it, until it is killed."""

import sys
from collections.abc import Mapping
from pathlib import Path

import tiny
import yaml

from noria.tuning.search import Limits, TrialRecord, begin_search
from noria.workspace import Workspace

SPACE: Mapping[str, object] = {
    "train.lr": {"low": 3.0e-4, "high": 3.0e-2, "log": True},
    "train.optimizer": ["adamw", "muon"],
    "model.layers": {"low": 1, "high": 2},
}


def make_workspace(root: Path, *, tune: Mapping[str, object] | None = None, **train: object) -> Workspace:
    """`tiny.make_workspace` with a `tune` section and other `train` settings."""
    workspace = tiny.make_workspace(root)
    params = yaml.safe_load(tiny.PARAMS)
    params["train"] |= {"deterministic": True, "checkpoint_every_s": 1e-9, "epochs": 6, **train}
    params["tune"] = {"startup_trials": 1, "pruner": "none", "space": SPACE, **(tune or {})}
    text = yaml.safe_dump(params, sort_keys=False)
    workspace.params.write_text(f"# ours\n{text}", encoding="utf-8")
    return Workspace.at(root)


def search(workspace: Workspace, *, trials: int) -> tuple[TrialRecord, ...]:
    """One trial after the other, without Prefect."""
    with begin_search(workspace, Limits(trials=trials, minutes=0, parallel=1), wait_s=60) as found:
        while (job := found.ask()) is not None:
            found.run(job)
        return found.records()


if __name__ == "__main__":
    search(Workspace.at(sys.argv[1]), trials=int(sys.argv[2]))
