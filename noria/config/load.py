"""Reading `params.yaml`, and saying what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from noria.config.config import Config
from noria.config.section import Section
from noria.errors import ConfigError


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key stands once in a mapping, as its specification has it; PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands here twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


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
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and not keys:  # of several sections: the key stands in front
        key, _, said = said.partition(": ")
        keys = tuple(key.split("."))
    dotted = ".".join(keys)
    where = f"{path}:{line_of(path, keys)}: {dotted}"
    if first["type"] == "extra_forbidden":
        valid = _fields_at(keys[:-1])
        near = difflib.get_close_matches(keys[-1], valid, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else "use one of these instead, or remove it"
        return ConfigError(f"unknown key `{dotted}`", where=where, expected=", ".join(valid), next_step=hint)
    if first["type"] == "missing":
        return ConfigError(f"`{dotted}` is missing", where=where, next_step=f"add `{dotted}` to {path.name}")
    if first["type"] == "value_error":  # of several values together: ours, in our words
        return ConfigError(f"`{dotted}`: {said}", where=where)
    return ConfigError(f"`{dotted}` is {first['input']!r}", where=where, expected=first["msg"])


def _fields_at(keys: tuple[str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for key in keys:
        annotation = section.model_fields[key].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        section = annotation
    return sorted(section.model_fields)


def line_of(path: Path, keys: tuple[str, ...]) -> int:
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
