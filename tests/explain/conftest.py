from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from training_fixtures import SCENARIO, TINY, tiny_config, tiny_splits

from noria.config import Config
from noria.training.checkpoint import Trained, load_trained
from noria.training.train import train_model


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny tensors: two threads would only wait for each other."""
    torch.set_num_threads(1)


TrainTiny = Callable[[Path, Mapping[str, object]], Trained]


@pytest.fixture(scope="session")
def train_tiny() -> TrainTiny:
    """Trains the tiny model with other keys of `model`."""

    def train(root: Path, model: Mapping[str, object]) -> Trained:
        config = Config.model_validate({**tiny_config().model_dump(), "model": {**TINY["model"], **model}})
        checkpoint = train_model(
            tiny_splits(root / "splits"),
            root / "checkpoint",
            scenario=SCENARIO,
            config=config,
            scratch=root / "scratch",
        )
        return load_trained(checkpoint.path, scenario=SCENARIO)

    return train


@pytest.fixture(scope="session")
def tiny(train_tiny: TrainTiny, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two layers of two heads, beside n-grams; tells good from bad."""
    return train_tiny(tmp_path_factory.mktemp("explained"), {"layers": 2})
