"""A training in a process of its own: a rank of a distributed one, or a trial of a search.

    python -m noria.training.worker JOB.json [PLACE]

JOB.json: `splits`, `output`, `scratch` and `events` (paths), and `config`, the resolved configuration; `start`
and `teacher` (paths or null) where they are not the directories that it names. PLACE: among trials at once,
0, 1, …: each sees one GPU, in turn, unless it is distributed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import torch

from noria.artifacts import read_artifact
from noria.config import Config
from noria.errors import NoriaError
from noria.events import emit, record
from noria.scenarios import load_scenario
from noria.training.agent import end_with_parent
from noria.training.distributed import started_by_torchrun
from noria.training.state import Point
from noria.training.train import train_model


def main() -> int:
    """Train; an error is an event, a line on stderr, and its exit code."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    config = Config.model_validate(job["config"])
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _terminate)
    if len(sys.argv) > 2 and config.train.distributed == "none":
        _see_one_gpu(int(sys.argv[2]))
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
            on_history=_tell_history,
        )
    except NoriaError as error:
        emit("error", message=str(error), exit_code=error.exit_code)
        sys.stderr.write(f"{error}\n")
        return 0 if started_by_torchrun() else error.exit_code
    return 0


def _see_one_gpu(place: int) -> None:
    """CUDA looks at the variable when it is first used, which is later."""
    name = gpu_at(place, num_gpus=torch.cuda.device_count(), visible=os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    if name is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = name


def gpu_at(place: int, *, num_gpus: int, visible: str) -> str | None:
    """The GPU of a trial among several at once, as CUDA_VISIBLE_DEVICES names it; None where there is no choice.

    Parameters
    ----------
    visible:
        CUDA_VISIBLE_DEVICES so far: their names, or empty for all by number.
    """
    names = visible.split(",") if visible else [str(number) for number in range(num_gpus)]
    return names[place % num_gpus] if num_gpus > 1 else None


def _path(job: dict[str, str], name: str, *, named: str) -> Path | None:
    path = job.get(name, None if named in ("none", "champion") else named)
    return None if path is None else Path(path)


def _tell_point(step: int, values: Mapping[str, float]) -> None:
    """Also those of earlier runs, which nobody listens to live."""
    emit("point", step=step, values=dict(values))


def _tell_resources(resources: Mapping[str, object]) -> None:
    emit("resources", values=dict(resources))


def _tell_history(points: Sequence[Point]) -> None:
    emit("history", points=[asdict(point) for point in points])


def _terminate(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)  # unwinds, so that half-written artifacts are removed


if __name__ == "__main__":
    sys.exit(main())
