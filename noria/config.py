"""`params.yaml` as frozen, typed sections.

One section per node of the flowchart; a function takes its own section and nothing else. Unknown
keys are errors that name the line and the nearest valid key. A scenario's defaults lie under what
the file says, so the smallest `params.yaml` names a model, a scenario and a source, and the other
sections empty: DVC wants to see those that a stage depends on (`noria init` adds them).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from noria.errors import ConfigError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Similarity = Annotated[float, Field(ge=0.2, le=1.0)]  # below it, MinHash of bounded size misses pairs


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class SourceConfig(Section):
    """Where the rows come from."""

    path: str = Field(min_length=1)
    """A file, a directory, or a URL that fsspec reads (`s3://bucket/reviews/`)."""
    format: Literal["auto", "csv", "jsonl", "parquet", "text"] = "auto"
    """`auto` goes by the file extension; `text` is one row a line."""
    columns: Mapping[str, str] = Field(default_factory=dict)
    """The scenario's column -> the source's column, where the names differ."""
    label_from: Literal["column", "file", "directory"] = "column"
    """Where the label is: a column, or the name of the file or of its directory."""
    carry: tuple[str, ...] = ()
    """More columns of the source that rows keep, as text; one of them can be `split.group_by`."""
    encoding: str = "utf-8"
    """Encoding of text files; bytes that are not valid in it go to quarantine with their row."""
    max_row_bytes: Positive = 1_000_000
    """A longer line or record goes to quarantine."""


class PreprocessConfig(Section):
    """What is computed before the gate looks."""

    batch_rows: Positive = 10_000
    """Rows in memory at once, also at the gate."""


class CheckConfig(Section):
    """The gate. Its rules are in `expectations/<scenario>.yaml`."""

    sample_rows: NonNegative = 5
    """Failing rows shown per expectation in the verdict (all their ids are kept)."""


class CleanConfig(Section):
    """What the cleaner repairs and what it refuses."""

    min_chars: Positive = 2
    max_chars: Positive = 2_000
    min_han_share: Share = 0.1
    """Smallest share of Han characters among letters."""
    near_duplicate_similarity: Similarity = 0.9
    """Jaccard similarity of character 3-grams from which two rows are duplicates; 1 means exact ones only."""
    label_conflicts: Literal["quarantine", "majority"] = "quarantine"
    """What happens to one text with several labels: all rows out, or the most frequent label kept."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars ({self.min_chars}) must not be above max_chars ({self.max_chars})")
        return self


class AugmentConfig(Section):
    """Rows added to the training set; every one points at its parent."""

    share: Share = 0.0
    """Augmented rows per original row; 0 is off (see the ablation in docs/log.md)."""
    delete_chars: Share = 0.1
    """Share of a row's characters that random deletion removes."""
    swap_chars: Share = 0.05
    """Share of a row's characters that are swapped with their neighbour."""
    shuffle_clauses: bool = True
    """Reorder the clauses of a row."""


class SplitConfig(Section):
    """Train and validation, by hash of the row's group."""

    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    group_by: str | None = None
    """A column whose equal values stay on one side; default: each row and what is augmented from it."""
    near_duplicate_similarity: Similarity = 0.8
    """Jaccard similarity of character 3-grams from which a training row leaks a validation row and is left out."""


class TokenizerConfig(Section):
    """The subword vocabulary, trained on the training rows."""

    vocabulary_size: Positive = 5_000
    max_piece_chars: Positive = 4
    max_tokens: Positive = 128
    """Longer rows keep their head and tail."""


class WideConfig(Section):
    """The linear branch over character n-grams beside the Transformer (Cheng et al. 2016, arXiv:1606.07792)."""

    enabled: bool = True
    max_ngram: Positive = 5
    min_rows: Positive = 2
    """An n-gram must occur in so many training rows."""
    inverse_regularization: Annotated[float, Field(gt=0)] = 10.0
    """C of the L2-regularized logistic regressions."""


class ModelConfig(Section):
    """The Transformer, and what stands beside it."""

    layers: Positive = 3
    dim: Positive = 128
    heads: Positive = 2
    feed_forward_dim: Positive = 384
    positions: Literal["learned", "rotary"] = "learned"
    bigram_buckets: NonNegative = 32_768
    """Vectors for hashed token bigrams, added to the token embeddings; 0 leaves them out."""
    wide: WideConfig = WideConfig()
    deep_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the Transformer against the wide branch, both brought to unit spread; 0 leaves it out."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        parts = self.heads * (2 if self.positions == "rotary" else 1)
        if self.dim % parts:
            raise ValueError(f"dim must be a multiple of {parts} for {self.heads} heads, {self.positions} positions")
        if not self.wide.enabled and not self.deep_weight:
            raise ValueError("either wide.enabled or a deep_weight above 0")
        return self


class PretrainConfig(Section):
    """Masked-token pretraining on the training rows (Devlin et al. 2019, arXiv:1810.04805)."""

    epochs: Annotated[float, Field(ge=0)] = 5.0
    """0 leaves it out."""
    lr: Annotated[float, Field(gt=0)] = 2e-3
    muon_lr: Annotated[float, Field(gt=0)] = 0.02
    """Rate of the Transformer's matrices under `muon`; `lr` is then AdamW's, for everything else."""
    batch_tokens: Positive = 2_048
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    mask_share: Share = 0.2
    """Share of the tokens to be guessed."""
    cooccurrence_window: NonNegative = 4
    """Token embeddings start from co-occurrence within so many tokens; 0 starts them at random."""


class TrainConfig(Section):
    """How the model learns from labels, and from the text alone before that."""

    lr: Annotated[float, Field(gt=0)] = 7e-4
    muon_lr: Annotated[float, Field(gt=0)] = 5e-3
    """Rate of the Transformer's matrices under `muon`; `lr` is then AdamW's, for everything else."""
    epochs: Annotated[float, Field(gt=0)] = 2.0
    batch_tokens: Positive = 2_048
    """Token budget of a micro-batch, padding included."""
    accumulate: Positive = 1
    """Micro-batches per optimizer step; the loss is divided by the targets of all of them."""
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    """`mse` regresses the classes' indicators (Hui & Belkin 2021, arXiv:2006.07322)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    token_mask: Share = 0.1
    """Share of tokens hidden while training on labels."""
    clause_shuffle: Share = 0.5
    """Share of rows whose clauses are put in another order while training on labels."""
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "linear"
    warmup_share: Share = 0.05
    """Share of the steps in which the rate rises."""
    decay_share: Share = 0.2
    """`wsd`: share of the steps in which the rate falls at the end."""
    holdout_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the training rows, by hash, that picks the best epoch and sets the blend; never the validation set."""
    patience: NonNegative = 0
    """Stop after so many epochs without a better hold-out loss; 0 never stops early."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` probes which is faster here."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: NonNegative = 0
    """CPU threads; 0 means one per core."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds of work that a kill may cost."""
    pretrain: PretrainConfig = PretrainConfig()


class EvaluateConfig(Section):
    """How the validation set judges."""

    resamples: Positive = 2_000
    """Bootstrap resamples behind each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    min_slice_rows: Positive = 50
    """Smaller slices are shown, never judged; and on fewer rows in all no champion is replaced."""


class OptimizeConfig(Section):
    """What may become the bundle."""

    candidates: Annotated[tuple[Literal["fp32", "fused", "int8"], ...], Field(min_length=1)] = ("fp32", "fused", "int8")
    max_quality_drop: Share = 0.005
    """Largest loss of the main metric against PyTorch, as a fraction (0.005 = half a point)."""
    max_slice_drop: Share = 0.03
    """The same for every slice that is large enough to be judged."""
    latency_repeats: Positive = 100
    opset: Positive = 20


class DeployConfig(Section):
    """Where versions live."""

    store: str = "store"
    """A directory, or a URL that fsspec writes (`s3://bucket/models`)."""


class UpdateConfig(Section):
    """When a challenger replaces the champion."""

    min_gain: Share = 0.0
    """The lower end of the paired interval of the gain must lie above this."""
    max_slice_drop: Share = 0.03
    max_latency_ratio: Annotated[float, Field(gt=0)] = 2.0
    """Challenger's p50 latency over the champion's."""


class ServeConfig(Section):
    """The model server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    threads: Positive = 1
    """ONNX Runtime threads per request."""
    max_batch_rows: Positive = 64
    max_body_bytes: Positive = 1_000_000


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key stands once in a mapping, as its specification has it; PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands here twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


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
    evaluate: EvaluateConfig = EvaluateConfig()
    optimize: OptimizeConfig = OptimizeConfig()
    deploy: DeployConfig = DeployConfig()
    update: UpdateConfig = UpdateConfig()
    serve: ServeConfig = ServeConfig()


def schema_text() -> str:
    """The JSON Schema of `params.yaml`, for editors; `params.schema.json` is this text."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def read_params(path: Path) -> dict[str, object]:
    """Parse a YAML mapping.

    Raises
    ------
    ConfigError
        When the file is missing, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "there is no params.yaml",
            where=str(path),
            next_step="`noria init DIR --scenario NAME` makes a workspace; `-C DIR` names one",
        ) from None
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"params.yaml can't be read: {error}", where=str(path), expected="UTF-8 text") from error
    try:
        values = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"not YAML: {error.problem}", where=f"{path}:{line}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", where=str(path)) from error
    if not isinstance(values, dict):
        raise ConfigError("not a mapping of sections", where=str(path), expected="name:, scenario:, source: …")
    return values


def load_config(path: Path, *, defaults: Mapping[str, object]) -> Config:
    """Read `params.yaml` over a scenario's `defaults`.

    Raises
    ------
    ConfigError
        Naming the first bad key, its line, and the nearest valid key or the accepted values.
    """
    values = _merge(defaults, read_params(path))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _explain(error, path) from None


def _merge(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if value is None and isinstance(old, Mapping):
            continue  # an empty section in YAML is null: the defaults stand
        if value is None and _is_section(key):
            value = {}
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _is_section(key: str) -> bool:
    field = Config.model_fields.get(key)
    return field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _explain(error: ValidationError, path: Path) -> ConfigError:
    first = error.errors()[0]
    keys = tuple(str(part) for part in first["loc"])
    dotted = ".".join(keys)
    where = f"{path}:{_line_of(path, keys)}: {dotted}"
    if first["type"] == "extra_forbidden":
        valid = _fields_at(keys[:-1])
        near = difflib.get_close_matches(keys[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else "use one of these instead, or remove it"
        return ConfigError(f"unknown key `{dotted}`", where=where, expected=", ".join(valid), next_step=hint)
    if first["type"] == "missing":
        return ConfigError(f"`{dotted}` is missing", where=where, next_step=f"add `{dotted}` to {path.name}")
    if first["type"] == "value_error":  # of several values together: ours, in our words
        return ConfigError(f"`{dotted}`: {first['msg'].removeprefix('Value error, ')}", where=where)
    return ConfigError(f"`{dotted}` is {first['input']!r}", where=where, expected=first["msg"])


def _fields_at(keys: tuple[str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for key in keys:
        annotation = section.model_fields[key].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        section = annotation
    return sorted(section.model_fields)


def _line_of(path: Path, keys: tuple[str, ...]) -> int:
    """The 1-based line of the deepest of `keys` that the file contains."""
    node = yaml.compose(path.read_text(encoding="utf-8"))
    line = 1
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            break
        for name, value in node.value:
            if name.value == key:
                line, node = name.start_mark.line + 1, value
                break
        else:
            break
    return line
