"""All of `params.yaml`."""

from __future__ import annotations

import json

from pydantic import Field

from noria.config.data import AugmentConfig, CheckConfig, CleanConfig, PreprocessConfig, SourceConfig, SplitConfig
from noria.config.section import NonNegative, Section
from noria.config.serving import DeployConfig, EvaluateConfig, OptimizeConfig, ServeConfig, UpdateConfig
from noria.config.training import ModelConfig, TokenizerConfig, TrainConfig
from noria.config.tune import TuneConfig


class Config(Section):
    """All of `params.yaml`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """The model's name in the store."""
    scenario: str
    seed: NonNegative = 1
    source: SourceConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    check: CheckConfig = CheckConfig()
    clean: CleanConfig = CleanConfig()
    augment: AugmentConfig = AugmentConfig()
    split: SplitConfig = SplitConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    tune: TuneConfig = TuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    optimize: OptimizeConfig = OptimizeConfig()
    deploy: DeployConfig = DeployConfig()
    update: UpdateConfig = UpdateConfig()
    serve: ServeConfig = ServeConfig()


def schema_text() -> str:
    """The JSON Schema of `params.yaml`, for editors; `params.schema.json` is this text."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
