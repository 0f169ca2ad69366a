"""All of `params.yaml`."""

from __future__ import annotations

import json
from typing import Self

from pydantic import Field, model_validator

from noria.config.data import AugmentConfig, CheckConfig, CleanConfig, PreprocessConfig, SourceConfig, SplitConfig
from noria.config.section import NonNegative, Section
from noria.config.serving import (
    ArrivalsConfig,
    DeployConfig,
    EvaluateConfig,
    FeedbackConfig,
    NotifyConfig,
    OptimizeConfig,
    ServeConfig,
    UpdateConfig,
)
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
    arrivals: ArrivalsConfig = ArrivalsConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    update: UpdateConfig = UpdateConfig()
    serve: ServeConfig = ServeConfig()
    notify: NotifyConfig = NotifyConfig()

    @model_validator(mode="after")
    def _can_be_compressed(self) -> Self:
        """A fault of sections together: the message begins with the key that is to be changed."""
        compress, model = self.optimize.compress, self.model
        if not compress.enabled:
            return self
        if not model.deep_weight:
            raise ValueError(
                "model.deep_weight: at 0 there is no Transformer that optimize.compress could make smaller"
            )
        if self.train.loss == "mse":
            raise ValueError(
                "train.loss: optimize.compress teaches distributions, and `mse` trains a model without any"
            )
        if compress.prune.heads and model.heads == 1:
            raise ValueError("optimize.compress.prune.heads: model.heads is 1, and every attention keeps one")
        if compress.distill.layers >= model.layers:
            raise ValueError(f"optimize.compress.distill.layers: must be below model.layers ({model.layers})")
        return self


def schema_text() -> str:
    """The JSON Schema of `params.yaml`, for editors; `params.schema.json` is this text."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
