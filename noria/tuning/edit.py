"""Other values in `params.yaml`, character by character: comments, order and layout stay as they are."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import yaml

from noria.config import Config, load_config, read_params
from noria.config.tune import Scalar
from noria.errors import ConfigError
from noria.tuning.space import TRAINED_ON, value_at, with_values


def edit_params(text: str, values: Mapping[str, Scalar]) -> str:
    """`text` with the values at dotted paths; keys that it does not say are added to their section."""
    for path, value in values.items():
        text = _edit(text, path.split("."), value)
    return text


def diff_params(before: str, after: str) -> str:
    """A unified diff, as `git apply` and `patch -p1` take it; empty where nothing changed."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "a/params.yaml", "b/params.yaml"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def propose(params: Path, values: Mapping[str, Scalar], *, config: Config, defaults: Mapping[str, object]) -> str:
    """The text of `params` with a trial's values in place of those of `config`, checked to mean just that.

    Raises
    ------
    ConfigError
        When `params` was changed since the search began, or shares a value between keys by an anchor.
    """
    changes = {path: value for path, value in values.items() if value != value_at(config, path)}
    try:
        read_params(params)  # it may be gone by now
        text = edit_params(read_text(params), changes)
        fits = _means(text, with_values(config, values), params, defaults)
    except (ConfigError, yaml.YAMLError):  # the file, or what one change left for the next
        fits = False
    if not fits:
        raise ConfigError(
            "the best values can't be put into params.yaml by themselves",
            where=str(params),
            expected="the file as the search found it, without anchors (&) and aliases (*) at the searched keys",
            next_step="set by hand: " + ", ".join(f"{path}: {written(value)}" for path, value in changes.items()),
        )
    return text


def _means(text: str, wanted: Config, params: Path, defaults: Mapping[str, object]) -> bool:
    """Whether `text` in the place of `params` would train as `wanted` says."""
    trial = params.with_name(f".{params.name}.proposed")
    try:
        trial.write_text(text, encoding="utf-8", newline="")
        found = load_config(trial, defaults=defaults)
    except ConfigError:
        return False
    finally:
        trial.unlink(missing_ok=True)
    compared = {"scenario", *TRAINED_ON}
    return found.model_dump(include=compared) == wanted.model_dump(include=compared)


def written(value: Scalar) -> str:
    """A value as YAML writes it: 1e-05 would be text without a point."""
    return yaml.safe_dump(value, allow_unicode=True, width=10**6).removesuffix("...\n").strip()


class _Placed(yaml.SafeLoader):
    """An alias is a node of its own, where it stands, and not the one that it means: that one has other keys too."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            return yaml.ScalarNode("alias", f"*{event.anchor}", event.start_mark, event.end_mark)
        return super().compose_node(parent, index)


def _edit(text: str, keys: list[str], value: Scalar) -> str:
    node = yaml.compose(text, Loader=_Placed)
    assert isinstance(node, yaml.MappingNode), "params.yaml was read before"
    while len(keys) > 1 and isinstance(below := _child(node, keys[0]), yaml.MappingNode):
        node, keys = below, keys[1:]
    below = _child(node, keys[0])
    if below is None:
        return _add(text, node, keys, value)
    start, end = below.start_mark.index, below.end_mark.index
    if len(keys) == 1:
        return text[:start] + _spaced(text, start, written(value)) + text[end:]
    return text[:start] + _spaced(text, start, _nested(keys[1:], value)) + text[end:]  # an empty section: null


def _child(node: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((below for name, below in node.value if name.value == key), None)


def _spaced(text: str, start: int, value: str) -> str:
    """Nothing stands after the colon of an empty value, not even a space."""
    return f" {value}" if text[start - 1 : start] == ":" else value


def _nested(keys: list[str], value: Scalar) -> str:
    """{pretrain: {lr: 0.001}}"""
    return "".join(f"{{{key}: " for key in keys) + written(value) + "}" * len(keys)


def _add(text: str, node: yaml.MappingNode, keys: list[str], value: Scalar) -> str:
    entry = f"{keys[0]}: {_nested(keys[1:], value) if len(keys) > 1 else written(value)}"
    if node.flow_style:  # before any comment, and before a comma that ends it
        end = node.value[-1][1].end_mark.index if node.value else node.start_mark.index + 1
        return text[:end] + (", " if node.value else "") + entry + text[end:]
    indent = " " * node.value[0][0].start_mark.column
    end = text.find("\n", _last(node)) + 1
    if not end:
        return f"{text}{_line_end(text)}{indent}{entry}"
    return f"{text[:end]}{indent}{entry}{_line_end(text[:end])}{text[end:]}"


def _line_end(text: str) -> str:
    """That of its last whole line."""
    end = text.rfind("\n")
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"


def _last(node: yaml.Node) -> int:
    """Where the last value of a node stands: a block ends only where the next begins, after comments."""
    if isinstance(node, yaml.MappingNode | yaml.SequenceNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last(last[1] if isinstance(node, yaml.MappingNode) else last)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return node.end_mark.index - 1
    return node.end_mark.index


def read_text(params: Path) -> str:
    """`params` with the line ends that it has: other ones would change every line."""
    return params.read_bytes().decode("utf-8")


def write_params(params: Path, text: str) -> None:
    """Put `text` in the place of `params`, whole or not at all."""
    partial = params.with_name(f".{params.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.chmod(params.stat().st_mode & 0o7777)
    partial.replace(params)
