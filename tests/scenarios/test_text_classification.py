import json
from pathlib import Path

import numpy as np
import pytest
from training_fixtures import SCENARIO, TINY, tiny_config, tiny_rows

from noria.config import Config, load_config
from noria.errors import ConfigError
from noria.scenarios.base import Encoder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return SCENARIO.fit_encoder(tiny_rows(50), tiny_config())


def test_the_defaults_are_a_valid_configuration() -> None:
    config = Config.model_validate(
        {**SCENARIO.defaults, "name": "a", "scenario": SCENARIO.name, "source": {"path": "x"}}
    )
    assert config.train.optimizer == "muon" and config.model.wide.enabled


def test_an_answer_names_the_likeliest_label_and_scores_that_sum_to_one(encoder: Encoder) -> None:
    outputs = [{"logits": np.asarray(row, dtype=np.float32)} for row in ([2.0, -1.0], [-300.0, 300.0])]
    first, second = (SCENARIO.response.model_validate(answer) for answer in SCENARIO.decode([{}, {}], outputs, encoder))
    assert first.model_dump()["label"] == "neg" and second.model_dump()["label"] == "pos"
    for answer in (first, second):
        assert sum(answer.model_dump()["scores"].values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("wide", "deep_weight"), [(True, 0.0), (False, 1.0)])
def test_either_branch_can_stand_alone(wide: bool, deep_weight: float) -> None:
    config = Config.model_validate(
        {**TINY, "model": {**TINY["model"], "deep_weight": deep_weight, "wide": {"enabled": wide}}}
    )
    built = SCENARIO.build_model(config, SCENARIO.fit_encoder(tiny_rows(50), config))
    assert (built.wide is not None) == wide and (built.deep is not None) == (deep_weight > 0)


@pytest.mark.parametrize("model", [{"dim": 30, "heads": 4}, {"wide": {"enabled": False}, "deep_weight": 0.0}])
def test_a_model_that_cannot_be_built_is_refused_when_the_configuration_is_read(
    model: dict[str, object], tmp_path: Path
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(json.dumps({**TINY, "model": model}))
    with pytest.raises(ConfigError, match="model"):
        load_config(params, defaults=SCENARIO.defaults)


def test_the_example_is_a_request_that_encodes(encoder: Encoder) -> None:
    request = SCENARIO.request.model_validate(SCENARIO.example)
    assert encoder.num_tokens(encoder.encode(request.model_dump())) > 0
    with pytest.raises(ValueError, match="text"):
        SCENARIO.request.model_validate({"text": ""})
