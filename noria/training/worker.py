"""A training in a process of its own: a rank of a distributed one, or a trial of a search.

    python -m noria.training.worker JOB.json

JOB.json: `splits`, `output`, `scratch` and `events` (paths), and `config`, the resolved configuration; `start`
and `teacher` (paths or null) where they are not the directories that it names.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from noria.artifacts import read_artifact
from noria.config import Config
from noria.errors import NoriaError
from noria.events import emit, record
from noria.scenarios import load_scenario
from noria.training.agent import end_with_parent
from noria.training.distributed import started_by_torchrun
from noria.training.train import train_model


def main() -> int:
    """Train; an error is an event, a line on stderr, and its exit code."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    config = Config.model_validate(job["config"])
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _terminate)
    if started_by_torchrun():
        end_with_parent(signal.SIGKILL)  # without torchrun nobody starts us again; the state is on disk
    if int(os.environ.get("LOCAL_RANK", "0")):
        return _train(job, config)
    logging.getLogger("noria").setLevel(logging.INFO)
    with record(Path(job["events"])):
        emit("started", pid=os.getpid(), restarts=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))
        return _train(job, config)


def _train(job: dict[str, str], config: Config) -> int:
    """The exit code; torchrun would start a rank again for any but 0, which is no cure for an error that was told."""
    try:
        train_model(
            read_artifact(Path(job["splits"]), verify=False),
            Path(job["output"]),
            scenario=load_scenario(config.scenario),
            config=config,
            scratch=Path(job["scratch"]),
            start=_path(job, "start", named=config.train.init_from),
            teacher=_path(job, "teacher", named=config.train.distill.teacher),
            on_metrics=_tell_point,
            on_resources=_tell_resources,
        )
    except NoriaError as error:
        emit("error", message=str(error), exit_code=error.exit_code)
        sys.stderr.write(f"{error}\n")
        return 0 if started_by_torchrun() else error.exit_code
    return 0


def _path(job: dict[str, str], name: str, *, named: str) -> Path | None:
    path = job.get(name, None if named in ("none", "champion") else named)
    return None if path is None else Path(path)


def _tell_point(step: int, values: Mapping[str, float]) -> None:
    """Also those of earlier runs, which nobody listens to live."""
    emit("point", step=step, values=dict(values))


def _tell_resources(resources: Mapping[str, object]) -> None:
    emit("resources", values=dict(resources))


def _terminate(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # unwinds, so that half-written artifacts are removed


if __name__ == "__main__":
    sys.exit(main())
