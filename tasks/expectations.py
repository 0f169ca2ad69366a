"""Suites of expectations: YAML that a data owner edits, checked line by line before anything is judged."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic.v1 import ValidationError

from noria.errors import ConfigError
from tasks.gx import ColumnMapExpectation, ColumnPairMapExpectation, Expectation, MulticolumnMapExpectation
from tasks.gx import expectations as gxe

Kind = Literal["rows", "profile"]

_KINDS: tuple[Kind, ...] = ("rows", "profile")
_OF_ONE_ROW = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
_ACROSS_ROWS = {
    "expect_column_values_to_be_unique",
    "expect_compound_columns_to_be_unique",
    "expect_column_value_z_scores_to_be_less_than",
    "expect_column_values_to_not_be_outliers",
    "expect_column_values_to_be_increasing",
    "expect_column_values_to_be_decreasing",
}
"""Judged batch by batch these would say nothing about all the rows."""
_COLUMN_SETTINGS = ("column", "column_A", "column_B", "column_list", "column_set")
_OURS = {"meta", "id", "notes", "description", "result_format", "catch_exceptions", "rendered_content", "batch_id"}
_OWN_SETTINGS = {"windows", "severity", *_OURS}


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite.

    Attributes
    ----------
    kind, where:
        The list it stands in, and `file:line`.
    name:
        The expectation's snake-case name and its column.
    column:
        Its column (several are joined by a comma).
    expectation:
        What Great Expectations runs; `mostly` is judged by us, on all batches together.
    """

    kind: Kind
    where: str
    name: str
    column: str
    why: str
    settings: Mapping[str, object]
    mostly: float
    expectation: Expectation

    @property
    def limit(self) -> str:
        """What is expected, for people."""
        low, high = self.settings.get("min_value"), self.settings.get("max_value")
        words = [f"at least {low:g}" if isinstance(low, int | float) else ""]
        words += [f"at most {high:g}" if isinstance(high, int | float) else ""]
        for name, value in self.settings.items():
            if name == "value_set" and isinstance(value, list):
                words.append(("one of " if len(value) > 1 else "") + ", ".join(map(str, value)))
            elif name not in ("min_value", "max_value", *_COLUMN_SETTINGS):
                words.append(f"{name} {value}")
        limit = ", ".join(filter(None, words)) or self.name.split("(")[0].removeprefix("expect_").replace("_", " ")
        return limit if self.mostly == 1.0 else f"{limit}, for {self.mostly:.4g} of the rows"


def read_suite(path: Path) -> list[Rule]:
    """Read and check a suite.

    Raises
    ------
    ConfigError
        Naming file, line and the nearest valid name: for an unknown list, expectation or setting, a
        missing `why` or column, a value of the wrong type.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
    except FileNotFoundError:
        raise ConfigError(
            "the scenario has no suite of expectations",
            where=str(path),
            next_step="`noria init` writes one; without expectations nothing can be judged",
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not YAML: {error}", where=str(path)) from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError("not a suite of expectations", where=str(path), expected="the lists rows: and profile:")
    rules: list[Rule] = []
    for key, value in root.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if key.value not in _KINDS:
            raise _unknown("list", key.value, _KINDS, where)
        if not isinstance(value, yaml.SequenceNode):
            raise ConfigError(f"`{key.value}` is no list", where=where, expected="- expect: …")
        rules += [_rule(node, key.value, path, loader) for node in value.value]
    if not rules:
        raise ConfigError("the suite is empty", where=str(path), expected="at least one expectation")
    _check_distinct(rules)
    return rules


def check_columns(rules: list[Rule], *, rows: list[str], profile: list[str]) -> None:
    """Check that every column there is a rule for exists.

    Raises
    ------
    ConfigError
        Naming file, line and the nearest column.
    """
    for rule in rules:
        valid = rows if rule.kind == "rows" else profile
        for column in _columns(rule.settings):
            if column not in valid:
                raise _unknown("column" if rule.kind == "rows" else "number of the profile", column, valid, rule.where)


def _rule(node: yaml.Node, kind: Kind, path: Path, loader: yaml.SafeLoader) -> Rule:
    where = f"{path}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("not an expectation", where=where, expected="expect: NAME, its settings, and why:")
    settings = {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}
    lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    name, why = settings.pop("expect", None), settings.pop("why", None)
    if not isinstance(name, str):
        raise ConfigError(
            "an entry names no expectation", where=where, expected="expect: expect_column_values_to_not_be_null"
        )
    if not isinstance(why, str) or not why.strip():
        raise ConfigError(f"`{name}` has no `why`", where=where, next_step="say in a sentence why it matters")
    kind_of = _find_expectation(name, f"{path}:{lines['expect']}")
    _check_kind(kind_of, kind, where)
    for setting in settings:
        valid = sorted(kind_of.__fields__.keys() - _OWN_SETTINGS)
        if setting not in valid:
            raise _unknown(f"setting of {name}", setting, [*valid, "why"], f"{path}:{lines[setting]}")
    mostly = settings.pop("mostly", 1.0)
    if not isinstance(mostly, int | float) or not 0 <= mostly <= 1 or (kind == "profile" and mostly != 1):
        raise ConfigError(
            f"`mostly` is {mostly!r}",
            where=f"{path}:{lines['mostly']}",
            expected="a share between 0 and 1, in `rows:` only (a profile is one row)",
        )
    try:
        expectation = kind_of(**settings, meta={"where": where})
    except ValidationError as error:
        first = error.errors()[0]
        setting = str(first["loc"][0])
        raise ConfigError(
            f"`{setting}` of {name}: {first['msg']}", where=f"{path}:{lines.get(setting, lines['expect'])}"
        ) from None
    column = ", ".join(_columns(settings))
    return Rule(
        kind, where, f"{kind_of.expectation_type}({column})", column, why.strip(), settings, float(mostly), expectation
    )


def _find_expectation(name: str, where: str) -> type[Expectation]:
    by_name = {}
    for kind in vars(gxe).values():
        if isinstance(kind, type) and issubclass(kind, Expectation) and kind.expectation_type:
            by_name[kind.__name__] = by_name[kind.expectation_type] = kind
    if name not in by_name:
        same_case = [valid for valid in by_name if valid[0].isupper() == name[:1].isupper()]
        raise _unknown("expectation", name, same_case, where)
    return by_name[name]


def _check_kind(kind_of: type[Expectation], kind: Kind, where: str) -> None:
    if kind == "rows" and (not issubclass(kind_of, _OF_ONE_ROW) or kind_of.expectation_type in _ACROSS_ROWS):
        raise ConfigError(
            f"`{kind_of.expectation_type}` is about all rows together, and `rows:` are judged batch by batch",
            where=where,
            next_step="use a number of the profile (duplicate_share, num_chars_median …) under `profile:`",
        )


def _check_distinct(rules: list[Rule]) -> None:
    seen: dict[tuple[str, str, str], Rule] = {}
    for rule in rules:
        key = (rule.kind, rule.name, repr(sorted(rule.settings.items())))
        if key in seen:
            raise ConfigError(f"{rule.name} stands here twice", where=rule.where, expected=f"once: {seen[key].where}")
        seen[key] = rule
    lines = Counter(rule.where for rule in rules)
    where, count = lines.most_common(1)[0]
    if count > 1:  # a rule is known by its line
        raise ConfigError(f"{count} expectations stand on one line", where=where, expected="each on a line of its own")


def _columns(settings: Mapping[str, object]) -> Iterator[str]:
    for name in _COLUMN_SETTINGS:
        value = settings.get(name)
        yield from [value] if isinstance(value, str) else value if isinstance(value, list) else []


def _unknown(what: str, name: str, valid: list[str] | tuple[str, ...], where: str) -> ConfigError:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return ConfigError(
        f"unknown {what} `{name}`",
        where=where,
        expected=", ".join(valid) if len(valid) <= 30 else "a name from https://greatexpectations.io/expectations",
        next_step=f"did you mean `{near[0]}`?" if near else "",
    )
