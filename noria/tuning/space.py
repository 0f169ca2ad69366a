"""What a search may change: paths of `params.yaml` with values that the configuration accepts."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from noria.config import Config
from noria.config.load import line_of
from noria.config.tune import RangeConfig, Scalar
from noria.errors import ConfigError

TRAINED_ON = ("seed", "tokenizer", "model", "train")
"""The sections that training reads: what a search may change, and what its result depends on."""

_FOR_ALL = "it is looked up once for the whole search, so that all trials start alike"
_ONE_HOST = "each trial runs on this host"
_FIXED = {
    "train.holdout_share": "it decides which rows judge the trials, so their losses would not compare",
    "train.init_from": _FOR_ALL,
    "train.distill.teacher": _FOR_ALL,
    "train.nodes": _ONE_HOST,
    "train.rendezvous": _ONE_HOST,
}
_MOST_COMBINATIONS = 1_000
_EXAMPLE = "tune: {space: {train.lr: {low: 1.0e-4, high: 3.0e-3, log: true}, train.optimizer: [adamw, muon]}}"


@dataclass(frozen=True)
class Dimension:
    """One path and what to try there: `choices`, or the numbers from `low` to `high`."""

    path: str
    kind: Literal["int", "float", "choice"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()

    def contains(self, value: Scalar) -> bool:
        """Whether the search could come upon `value`."""
        if self.kind == "choice":
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs((value - self.low) / self.step - round((value - self.low) / self.step)) < 1e-9

    def samples(self) -> tuple[Scalar, ...]:
        """Values that stand for all: every choice, or both ends."""
        if self.kind == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.kind == "int" else (self.low, self.high)


@dataclass(frozen=True)
class Space:
    """The current configuration, and the ways in which trials differ from it."""

    base: Config
    dimensions: tuple[Dimension, ...]

    def config(self, values: Mapping[str, Scalar]) -> Config | None:
        """The configuration of a trial; None where it refuses `values` together."""
        try:
            return with_values(self.base, values)
        except ValidationError:
            return None

    def current(self) -> dict[str, Scalar]:
        """What the current configuration has at each path."""
        return {dimension.path: value_at(self.base, dimension.path) for dimension in self.dimensions}


def read_space(config: Config, params: Path) -> Space:
    """The space of `tune.space`, checked value by value against the configuration; `params` is its file.

    Raises
    ------
    ConfigError
        Naming the path and its line: unknown, of another kind, or with a value that `Config` refuses; or when the
        training needs other machines.
    """
    if not config.tune.space:
        raise ConfigError(
            "there is nothing to search: `tune.space` is empty",
            where=f"{params}:{line_of(params, ('tune', 'space'))}",
            expected=_EXAMPLE,
            next_step="add the paths to search, each with a list of values or a range",
        )
    if config.train.nodes > 1:
        raise ConfigError(
            f"a search trains on one machine, and `train.nodes` is {config.train.nodes}",
            where=f"{params}:{line_of(params, ('train', 'nodes'))}: train.nodes",
            expected="train.nodes: 1; nobody starts the trials on the others",
            next_step="set it, search, and set it back",
        )
    dimensions = []
    for path, values in config.tune.space.items():
        where = f"{params}:{line_of(params, ('tune', 'space', path))}: tune.space.{path}"
        kind = _kind(path, where)
        dimensions.append(_dimension(path, kind, values, config=config, where=where))
    space = Space(config, tuple(dimensions))
    for dimension in space.dimensions:
        _check_combines(dimension, space, params)
    return space


def with_values(config: Config, values: Mapping[str, Scalar]) -> Config:
    """`config` with other values at some paths. Raises pydantic's ValidationError where it refuses them."""
    plain = config.model_dump()
    for path, value in values.items():
        section = plain
        *parents, leaf = path.split(".")
        for key in parents:
            section = section[key]
        section[leaf] = value
    return Config.model_validate(plain)


def value_at(config: Config, path: str) -> Scalar:
    """What `config` has at a path that leads to a leaf."""
    value: object = config
    for key in path.split("."):
        value = getattr(value, key)
    assert value is None or isinstance(value, bool | int | float | str)
    return value


def leaf_types() -> dict[str, object]:
    """Every path that a search may change, with the type of the value there."""
    return dict(_leaves(Config, ""))


def _leaves(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, object]]:
    for name, field in section.model_fields.items():
        if not prefix and name not in TRAINED_ON:
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.annotation


def _kind(path: str, where: str) -> object:
    """The type at `path`, where it is one to search."""
    types = leaf_types()
    if path in _FIXED:
        raise ConfigError(f"`{path}` can't be searched: {_FIXED[path]}", where=where, next_step="take it out")
    if path in types:
        return types[path]
    below = [leaf for leaf in types if leaf.startswith(f"{path}.")]
    if below:
        raise ConfigError(f"`{path}` is a section", where=where, expected="one of its keys: " + ", ".join(below))
    near = difflib.get_close_matches(path, types, n=1, cutoff=0.5)
    raise ConfigError(
        f"unknown path `{path}`",
        where=where,
        expected=f"a key that training reads, of {', '.join(TRAINED_ON)}",
        next_step=f"did you mean `{near[0]}`?" if near else "your editor lists the keys (params.schema.json)",
    )


def _dimension(
    path: str, kind: object, values: RangeConfig | tuple[Scalar, ...], *, config: Config, where: str
) -> Dimension:
    if isinstance(values, tuple):
        dimension = Dimension(path, "choice", choices=values)
    elif kind is int:
        ends = (values.low, values.high, values.step or 1)
        if any(end != int(end) for end in ends):
            raise ConfigError(f"`{path}` is a whole number", where=where, expected="low, high and step without a point")
        dimension = Dimension(path, "int", values.low, values.high, values.log, None if values.log else ends[2])
    elif kind is float:
        dimension = Dimension(path, "float", float(values.low), float(values.high), values.log, values.step)
    else:
        raise ConfigError(f"`{path}` is not a number", where=where, expected="a list of the values to try")
    accepted = tuple(_accepted(config, path, value, where) for value in dimension.samples())
    return Dimension(path, "choice", choices=accepted) if isinstance(values, tuple) else dimension


def _accepted(config: Config, path: str, value: Scalar, where: str) -> Scalar:
    """`value` as the configuration reads it ("1e-4" is a number there), if it takes it by itself."""
    try:
        return value_at(with_values(config, {path: value}), path)
    except ValidationError as error:
        for found in error.errors():
            if ".".join(map(str, found["loc"])) == path or found["type"] != "value_error":
                raise ConfigError(f"`{path}` can't be {value!r}", where=where, expected=found["msg"]) from None
        return value  # refused together with others: `_check_combines` looks at those


def _check_combines(dimension: Dimension, space: Space, params: Path) -> None:
    """Raise where a value fits no values of the other dimensions: it would never be tried."""
    others = [other for other in space.dimensions if other is not dimension]
    candidates = [(*other.samples(), value_at(space.base, other.path)) for other in others]
    for value in dimension.samples():
        combinations = itertools.islice(itertools.product(*candidates), _MOST_COMBINATIONS)
        tried = (
            {dimension.path: value, **{other.path: it for other, it in zip(others, combination, strict=True)}}
            for combination in itertools.chain([tuple(candidate[-1] for candidate in candidates)], combinations)
        )
        if not any(space.config(values) is not None for values in tried):
            raise ConfigError(
                f"`{dimension.path}` can't be {value!r}: it fits no values of the others",
                where=f"{params}:{line_of(params, ('tune', 'space', dimension.path))}: tune.space.{dimension.path}",
                expected=_why(space, dimension.path, value),
            )


def _why(space: Space, path: str, value: Scalar) -> str:
    try:
        with_values(space.base, {path: value})
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return "a value that the configuration accepts"
