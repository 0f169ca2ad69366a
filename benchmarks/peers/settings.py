"""What a contender is told, and what it reports: the same for ours and for every peer.

A contender is a module that runs as `python -m MODULE WORKLOAD_DIR --settings JSON` and prints a record as
its last line of standard output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from benchmarks.workloads.format import Workload, read_workload
from noria.errors import ConfigError

ACTIVATIONS = ("relu2", "relu", "gelu")
PRECISIONS = ("fp32", "bf16")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Settings:
    """How a contender trains.

    Attributes
    ----------
    threads:
        Of PyTorch, within an operation.
    steps:
        Optimizer steps in all.
    num_warmup_steps:
        The first of them, which the throughput leaves out: caches fill and memory is allocated.
    batch_size:
        Rows a step; 0 means the peer's own default.
    lr, schedule, lr_warmup_steps, weight_decay, max_grad_norm:
        Of the optimizer. The schedule goes to 0 over `steps`. A gradient norm of 0 means no clipping.
    precision:
        `bf16` is autocast over float32 weights.
    evaluate_every_steps:
        Validation loss after so many steps, and at the end; 0 means never. Its time is not counted.
    batch_tokens:
        Tokens a step, padding included, for those that batch by tokens (JoeyNMT, ours); 0 means their default.
    optimizer, muon_lr:
        Ours alone: `adamw` or `muon`, and the rate of its matrices. Peers use Adam or AdamW, as they say.
    group_by_length, fused, workers, attention, compile:
        Options that a peer has or has not; one that it has not is an error.
    layers, dim, heads, feed_forward_dim, context:
        Of the model; 0 means what the work has by default (benchmarks/peers/modules.py). An encoder-decoder
        has as many layers on both sides. The context is of language modelling alone.
    vocabulary_size:
        Rows of the embedding, and outputs, where the workload has fewer tokens; 0 means as many as it has.
    """

    threads: int = 2
    steps: int = 110
    num_warmup_steps: int = 10
    batch_size: int = 0
    lr: float = 5e-4
    schedule: str = "constant"
    lr_warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    dropout: float = 0.0
    activation: str = "relu2"
    precision: str = "fp32"
    seed: int = 1
    evaluate_every_steps: int = 0
    batch_tokens: int = 0
    optimizer: str = "adamw"
    muon_lr: float = 0.02
    group_by_length: bool = False
    fused: bool = False
    workers: int = 0
    attention: str = "sdpa"
    compile: bool = False
    layers: int = 0
    dim: int = 0
    heads: int = 0
    feed_forward_dim: int = 0
    context: int = 0
    vocabulary_size: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("activation", ACTIVATIONS), ("precision", PRECISIONS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"unknown {name} `{getattr(self, name)}`", expected=" | ".join(allowed))
        if self.steps <= self.num_warmup_steps:
            raise ConfigError(f"{self.steps} steps leave none to measure", expected=f"> {self.num_warmup_steps}")

    def without(self, peer: str, **missing: object) -> None:
        """Refuse settings that a peer can't follow; `missing` maps each to the one value it can.

        Raises
        ------
        ConfigError
            When one has another value: a setting that is ignored would make a row of the table untrue.
        """
        for name, only in missing.items():
            if getattr(self, name) != only:
                raise ConfigError(f"{peer} has no `{name}={getattr(self, name)}`", expected=f"{name}={only}")


@dataclass(frozen=True)
class Record:
    """What one training measured.

    Attributes
    ----------
    real_tokens:
        Ids of the workload that went through the model in the measured steps: no padding, and none of the
        begin, end or class tokens that a contender adds. Source and target together.
    target_tokens:
        Of them, those with a loss: for translation with the end token, for language modelling every
        position; for text classification one per row.
    seconds:
        Wall clock of the measured steps, without validation.
    steps:
        Measured steps.
    parameters:
        Trainable ones, shared ones once.
    curve:
        (training seconds since the first step, validation loss), mean per row for classification and per
        target token elsewhere.
    warmup_seconds:
        Seconds of the first steps, which `seconds` leaves out: compiling falls into them.
    """

    peer: str
    work: str
    real_tokens: int
    target_tokens: int
    seconds: float
    steps: int
    parameters: int
    curve: list[tuple[float, float]]
    settings: dict[str, object]
    versions: dict[str, str] = field(default_factory=dict)
    warmup_seconds: float = 0.0

    @property
    def real_tokens_per_s(self) -> float:
        return self.real_tokens / self.seconds

    @property
    def target_tokens_per_s(self) -> float:
        return self.target_tokens / self.seconds

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(line: str) -> Record:
        values = json.loads(line)
        return Record(**{**values, "curve": [(seconds, loss) for seconds, loss in values["curve"]]})


def read_arguments(
    description: str | None, *, defaults: Mapping[str, object] | None = None
) -> tuple[Workload, Settings]:
    """The command line of every contender; `defaults` are the peer's own where they differ from `Settings`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path, help="a directory that benchmarks.workloads wrote")
    parser.add_argument("--settings", default="{}", help="JSON; see benchmarks/peers/settings.py")
    args = parser.parse_args()
    given = json.loads(args.settings)
    known = {item.name for item in fields(Settings)}
    if unknown := sorted(set(given) - known):
        raise ConfigError(f"unknown settings: {', '.join(unknown)}", expected=", ".join(sorted(known)))
    return read_workload(args.workload), Settings(**{**(defaults or {}), **given})
