"""Trains the tiny model, and is killed (SIGKILL, by itself) once `KILL_AFTER` points of the curves were told."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from training_fixtures import SCENARIO, tiny_config

from noria.artifacts import read_artifact
from noria.training.train import train_model


def main() -> None:
    root, kill_after = Path(sys.argv[1]), int(sys.argv[2])
    told = 0

    def count(step: int, values: Mapping[str, float]) -> None:
        nonlocal told
        told += 1
        if told == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    train_model(
        read_artifact(root / "splits"),
        root / "checkpoint",
        scenario=SCENARIO,
        config=tiny_config(checkpoint_every_s=1e-9),
        scratch=root / "scratch",
        on_metrics=count,
    )


if __name__ == "__main__":
    main()
