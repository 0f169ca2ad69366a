"""Trains the tiny model below a directory, as `python train_tiny.py DIRECTORY SETTINGS`; an error is its exit code.

SETTINGS: the `train` section in JSON. Writes `checkpoint` beside `splits`, and `curve.json`.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from training_fixtures import SCENARIO, Listener, tiny_config

from noria.artifacts import read_artifact
from noria.errors import NoriaError
from noria.training.train import train_model


def main() -> int:
    root, told = Path(sys.argv[1]), Listener()
    try:
        train_model(
            read_artifact(root / "splits"),
            root / "checkpoint",
            scenario=SCENARIO,
            config=tiny_config(**json.loads(sys.argv[2])),
            scratch=root / "scratch",
            on_metrics=told,
        )
    except NoriaError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    (root / "curve.json").write_text(json.dumps(told.curve()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
