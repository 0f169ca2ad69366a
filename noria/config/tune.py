"""The search for hyperparameters: what it may change, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from noria.config.section import NonNegative, Positive, Section

Scalar = bool | int | float | str | None
"""A value that can stand at a leaf of `params.yaml`."""


class RangeConfig(Section):
    """Numbers to try, both ends included; whole numbers where the parameter is one."""

    low: int | float
    high: int | float
    log: bool = False
    """Try orders of magnitude alike: for rates."""
    step: Annotated[int | float, Field(gt=0)] | None = None
    """Only `low`, `low + step`, …"""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"low ({self.low}) must be above 0 with log")
        if self.log and self.step is not None:
            raise ValueError("either log or step")
        return self


def _checked(value: object) -> object:
    """A range or a list, with one message of our own for whatever is wrong with it: its line is that of the path."""
    if isinstance(value, Mapping):
        try:
            return RangeConfig.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            key = ".".join(map(str, first["loc"][:1]))
            raise ValueError(f"{key}: {message}" if key else message) from None
    if isinstance(value, list | tuple):
        if not value or not all(item is None or isinstance(item, bool | int | float | str) for item in value):
            raise ValueError("a list of values to try must hold one or more plain values")
        if len({(type(item), item) for item in value}) < len(value):
            raise ValueError("a value stands here twice")
    elif not isinstance(value, RangeConfig):
        raise ValueError("must be a list of values to try, or a range {low: …, high: …}")
    return value


def _or_empty(value: object) -> object:
    """A section whose every line is a comment is null in YAML."""
    return {} if value is None else value


Dimension = Annotated[RangeConfig | tuple[Scalar, ...], BeforeValidator(_checked)]


class TuneConfig(Section):
    """The search of `noria tune`. It judges by the hold-out inside the training side, never by the validation set."""

    trials: Positive = 20
    """Trainings in all, the one with the current parameters among them."""
    minutes: Annotated[float, Field(ge=0)] = 0.0
    """Stop after so long; 0 is without a limit. Called again, the search goes on."""
    parallel: Positive = 1
    """Trainings at once."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Ends a trial early: when it is worse than the median of the others at the same epoch, or by Hyperband."""
    startup_trials: NonNegative = 5
    """Trials drawn at random before the sampler models what it saw (TPE), and before any is pruned."""
    min_gain: Annotated[float, Field(ge=0)] = 0.0
    """How far the best hold-out loss must lie below that of the current parameters to be proposed."""
    space: Annotated[Mapping[str, Dimension], BeforeValidator(_or_empty)] = Field(default_factory=dict)
    """A path below tokenizer, model, train, or seed -> the values to try: a list, or a range."""
