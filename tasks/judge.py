"""Great Expectations as a judge with flat memory: batch by batch, summed up, every failing row named."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TextIO

import numpy as np
import pandas as pd
import pyarrow as pa

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.data.media import binary_columns
from noria.data.profile import Profile, profile_rows, rows_at, says_of_part
from noria.data.rows import read_batches, read_schema
from noria.data.verdict import Judgement, Verdict, verdict_line, write_verdict
from noria.errors import GateError
from noria.events import Progress, progress
from noria.scenarios.base import Scenario
from tasks.data_docs import write_data_docs
from tasks.expectations import Rule, check_columns, read_suite
from tasks.gx import (
    DataContextConfig,
    ExpectationSuite,
    ExpectationValidationResult,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
    get_context,
)

logger = logging.getLogger(__name__)

ResultFormat = dict[str, str | list[str]]

_ID_COLUMNS = ["id", "origin"]
_SAMPLE_CHARS = 500
_NUMBERS: ResultFormat = {"result_format": "BASIC"}


class Referee:
    """Runs rules of one kind on frames, in an ephemeral context of their own."""

    def __init__(self, rules: Sequence[Rule], result_format: ResultFormat) -> None:
        self.rules = rules
        self._result_format = result_format
        context = get_context(
            mode="ephemeral",
            project_config=DataContextConfig(
                store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
                progress_bars=ProgressBarsConfig(globally=False),
                analytics_enabled=False,
            ),
        )
        asset = context.data_sources.add_pandas("noria").add_dataframe_asset("rows")
        self._batch = asset.add_batch_definition_whole_dataframe("batch")
        self._suite = ExpectationSuite(name="suite", expectations=[rule.expectation for rule in rules])

    def run(self, frame: pd.DataFrame) -> list[ExpectationValidationResult]:
        """One result per rule, in their order.

        Raises
        ------
        GateError
            When an expectation raised, or was dropped.
        """
        if not self.rules:
            return []
        batch = self._batch.get_batch(batch_parameters={"dataframe": frame})
        results = batch.validate(self._suite, result_format=self._result_format).results
        by_where = {_where(result): result for result in results}
        for rule in self.rules:
            if rule.where not in by_where:
                raise GateError(
                    f"Great Expectations left out {rule.name}", where=rule.where, next_step="check its settings"
                )
            if message := _exception(by_where[rule.where].exception_info):
                raise GateError(
                    f"{rule.name} could not be judged: {message}",
                    where=rule.where,
                    expected="settings that fit the column's type",
                    next_step="correct the expectation; data that can't be judged has no verdict",
                )
        return [by_where[rule.where] for rule in self.rules]


def judge(
    data: Artifact,
    report: Path,
    *,
    suite: Path,
    scenario: Scenario,
    batch_rows: int,
    sample_rows: int,
    min_profile_rows: int | None = None,
) -> Artifact:
    """Judge the rows of `data` by a suite, and write the verdict as an artifact at `report`.

    With `min_profile_rows` they are a part of all rows: of the profile's numbers only those are judged that can be
    said of a part of its size (`says_of_part`).

    It holds verdict.json, profile.json, failing_ids/ (every failing row of every expectation) and
    data_docs/; its facts say `passed` and the names of what `failed`.

    Raises
    ------
    ConfigError
        When the suite is wrong, with file and line.
    GateError
        When an expectation could not be judged.
    """
    rules = read_suite(suite)
    profile = _profile(data, scenario, batch_rows)
    check_columns(rules, rows=read_schema(data.path).names, profile=list(profile.values))
    if min_profile_rows is not None:
        rules = _of_a_part(rules, rows=int(profile.values["rows"]), at_least=min_profile_rows)
    unshown = binary_columns(scenario.schema)
    with write_artifact(report, kind="verdict", parents=(data,)) as draft:
        shown_columns = [*_ID_COLUMNS, *(name for name in scenario.schema.names if name not in unshown)]
        failures = _Failures(draft.path, rules, sample_rows=sample_rows)
        by_row = [rule for rule in rules if rule.kind == "rows"]
        by_profile = [rule for rule in rules if rule.kind == "profile"]
        with failures, progress("quality check", total=int(profile.values["rows"])) as shown:
            batches = read_batches(data.path, batch_rows=batch_rows)
            judgements = _judge_rows(by_row, batches, failures, shown, columns=shown_columns)
            judgements |= _judge_profile(by_profile, profile, failures, data.path, columns=shown_columns)
        verdict = Verdict(int(profile.values["rows"]), tuple(judgements[rule.where] for rule in rules))
        write_verdict(draft.path, verdict)
        (draft.path / "profile.json").write_text(json.dumps(profile.values, indent=2) + "\n")
        docs = draft.path / "data_docs"
        write_data_docs(docs, verdict, rules=rules, title=f"{scenario.name} ({report.name})", data=data.path.name)
        draft.counts = {"rows": verdict.rows, "failed": len(verdict.failed)}
        draft.facts = {"passed": verdict.passed, "failed": [judgement.name for judgement in verdict.failed]}
    logger.info("%s", verdict_line(verdict))
    return read_artifact(report, verify=False)


def _of_a_part(rules: Sequence[Rule], *, rows: int, at_least: int) -> list[Rule]:
    kept = [rule for rule in rules if rule.kind == "rows" or says_of_part(rule.column, rows=rows, at_least=at_least)]
    if left := [rule.column for rule in rules if rule not in kept]:
        logger.info("not judged on the %s rows of a part: %s", f"{rows:,}", ", ".join(left))
    return kept


def _profile(data: Artifact, scenario: Scenario, batch_rows: int) -> Profile:
    return profile_rows(
        data.path,
        content=scenario.schema.names,
        target=scenario.target,
        duplicate_key=scenario.duplicate_key,
        batch_rows=batch_rows,
    )


class _Failures:
    """Files of failing ids, one per rule that anything fails, and the first rows of each for people."""

    def __init__(self, report: Path, rules: Sequence[Rule], *, sample_rows: int) -> None:
        self.samples: dict[str, list[Mapping[str, object]]] = {rule.where: [] for rule in rules}
        self.files: dict[str, str] = {}
        self.counts = Counter[str]()
        self._report = report
        self.sample_rows = sample_rows
        self._names = {
            rule.where: f"failing_ids/{index:02d}-{rule.column.replace(', ', '-')}.jsonl"
            for index, rule in enumerate(rules, 1)
        }
        self._open: dict[str, TextIO] = {}
        self._stack = ExitStack()

    def add(self, rule: Rule, rows: Iterable[Mapping[str, object]]) -> None:
        """Rows (id, origin and values) that break `rule`."""
        samples = self.samples[rule.where]
        for row in rows:
            if rule.where not in self._open:
                path = self._report / self._names[rule.where]
                path.parent.mkdir(exist_ok=True)
                self._open[rule.where] = self._stack.enter_context(path.open("w", encoding="utf-8"))
                self.files[rule.where] = self._names[rule.where]
            self._open[rule.where].write(_line(row))
            self.counts[rule.where] += 1
            if len(samples) < self.sample_rows:
                samples.append(_sample(row))

    def __enter__(self) -> _Failures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _judge_rows(
    rules: Sequence[Rule],
    batches: Iterable[pa.RecordBatch],
    failures: _Failures,
    shown: Progress,
    *,
    columns: list[str],
) -> dict[str, Judgement]:
    """Judge rows batch by batch; `mostly` is a share of all rows, not of a batch's."""
    referee = Referee(rules, {"result_format": "COMPLETE", "unexpected_index_column_names": columns})
    judged = Counter[str]()
    for batch in batches:
        for rule, result in zip(rules, referee.run(batch.to_pandas()), strict=True):
            counts = result.result
            judged[rule.where] += counts["element_count"] - counts.get("missing_count", 0)
            failures.add(rule, counts.get("unexpected_index_list") or [])
        shown.advance(batch.num_rows)
    return {rule.where: _of_rows(rule, judged[rule.where], failures) for rule in rules}


def _judge_profile(
    rules: Sequence[Rule], profile: Profile, failures: _Failures, rows: Path, *, columns: Sequence[str]
) -> dict[str, Judgement]:
    """Judge the profile's numbers; of those that count rows, the rows behind one that fails are named too."""
    results = Referee(rules, _NUMBERS).run(pd.DataFrame([dict(profile.values)]))
    for rule, result in zip(rules, results, strict=True):
        if not result.success:
            failures.add(rule, rows_at(rows, profile.rows_behind(rule.column), columns=columns))
            shown = profile.examples_of(rule.column, failures.sample_rows)
            found = dict(zip(np.sort(shown), rows_at(rows, np.sort(shown), columns=columns), strict=True))
            failures.samples[rule.where] = [_sample(found[position]) for position in shown]
    return {
        rule.where: _of_profile(rule, profile, bool(result.success), failures)
        for rule, result in zip(rules, results, strict=True)
    }


def _of_rows(rule: Rule, judged: int, failures: _Failures) -> Judgement:
    unexpected = failures.counts[rule.where]
    held = (judged - unexpected) / judged if judged else 1.0  # rounded as a share in the suite is
    return _judgement(rule, failures, passed=held >= rule.mostly, judged=judged, observed=None)


def _of_profile(rule: Rule, profile: Profile, passed: bool, failures: _Failures) -> Judgement:
    rows = int(profile.values["rows"])
    return _judgement(rule, failures, passed=passed, judged=rows, observed=profile.values.get(rule.column))


def _judgement(rule: Rule, failures: _Failures, *, passed: bool, judged: int, observed: float | None) -> Judgement:
    return Judgement(
        name=rule.name,
        kind=rule.kind,
        column=rule.column,
        why=rule.why,
        where=rule.where.rsplit("/", 1)[-1],  # a verdict does not depend on where the workspace is
        passed=passed,
        limit=rule.limit,
        observed=observed,
        judged=judged,
        unexpected=failures.counts[rule.where],
        mostly=rule.mostly,
        failing_ids=failures.files.get(rule.where),
        samples=tuple(failures.samples[rule.where]),
    )


def _where(result: ExpectationValidationResult) -> str:
    """The line of the suite that a result belongs to."""
    assert result.expectation_config is not None and result.expectation_config.meta is not None
    return str(result.expectation_config.meta["where"])


def _exception(info: Mapping[str, object]) -> str:
    """The message of what was raised, or nothing; one mapping, or one per metric."""
    infos = [info] if "raised_exception" in info else list(info.values())
    for one in infos:
        if isinstance(one, Mapping) and one.get("raised_exception"):
            return str(one.get("exception_message"))
    return ""


def _sample(row: Mapping[str, object]) -> Mapping[str, object]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: object) -> object:
    """A value that JSON knows: no NaN, no numpy scalar, no endless text."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str):
        return value[:_SAMPLE_CHARS]
    return value.item() if hasattr(value, "item") else value


def _line(row: Mapping[str, object]) -> str:
    return json.dumps({name: row[name] for name in _ID_COLUMNS}, ensure_ascii=False) + "\n"
