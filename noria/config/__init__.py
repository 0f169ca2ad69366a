"""`params.yaml` as frozen, typed sections.

One section per node of the flowchart; a function takes its own section and nothing else. Unknown
keys are errors that name the line and the nearest valid key. A scenario's defaults lie under what
the file says, so the smallest `params.yaml` names a model, a scenario and a source, and the other
sections empty: DVC wants to see those that a stage depends on (`noria init` adds them).
"""

from noria.config.config import Config, schema_text
from noria.config.data import (
    AugmentConfig,
    CheckConfig,
    CleanAnswersConfig,
    CleanAudioConfig,
    CleanConfig,
    CleanImageConfig,
    EventsConfig,
    PreprocessConfig,
    SourceConfig,
    SplitConfig,
)
from noria.config.load import load_config, read_params
from noria.config.section import Section
from noria.config.serving import (
    ArrivalsConfig,
    CompressConfig,
    DeployConfig,
    DriftConfig,
    EvaluateConfig,
    FeedbackConfig,
    NewsKind,
    NotifyConfig,
    OptimizeConfig,
    PruneConfig,
    ServeConfig,
    StopConfig,
    StudentConfig,
    TriggersConfig,
    UpdateConfig,
)
from noria.config.training import (
    AudioConfig,
    AverageConfig,
    DistillConfig,
    GenerationConfig,
    GuardConfig,
    HearingConfig,
    HistoryConfig,
    ImageConfig,
    LoraConfig,
    ModelConfig,
    PretrainConfig,
    SeeingConfig,
    SpansConfig,
    TokenizerConfig,
    TrainConfig,
    WideConfig,
)
from noria.config.tune import TuneConfig

__all__ = [
    "ArrivalsConfig",
    "AudioConfig",
    "AugmentConfig",
    "AverageConfig",
    "CheckConfig",
    "CleanAnswersConfig",
    "CleanAudioConfig",
    "CleanConfig",
    "CleanImageConfig",
    "CompressConfig",
    "Config",
    "DeployConfig",
    "DistillConfig",
    "DriftConfig",
    "EvaluateConfig",
    "EventsConfig",
    "FeedbackConfig",
    "GenerationConfig",
    "GuardConfig",
    "HearingConfig",
    "HistoryConfig",
    "ImageConfig",
    "LoraConfig",
    "ModelConfig",
    "NewsKind",
    "NotifyConfig",
    "OptimizeConfig",
    "PreprocessConfig",
    "PretrainConfig",
    "PruneConfig",
    "Section",
    "SeeingConfig",
    "ServeConfig",
    "SourceConfig",
    "SpansConfig",
    "SplitConfig",
    "StopConfig",
    "StudentConfig",
    "TokenizerConfig",
    "TrainConfig",
    "TriggersConfig",
    "TuneConfig",
    "UpdateConfig",
    "WideConfig",
    "load_config",
    "read_params",
    "schema_text",
]
