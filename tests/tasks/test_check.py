"""The gate on real rows: Great Expectations judges, we sum up."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from noria.artifacts import Ledger, digest_files, read_artifact, write_artifact
from noria.data.profile import profile_rows
from noria.data.rows import ShardWriter, row_schema
from noria.data.verdict import read_verdict, verdict_markdown
from noria.errors import ConfigError, GateError
from noria.scenarios import load_scenario
from tasks.expectations import check_columns, read_suite
from tasks.judge import Referee, judge

SCENARIO = load_scenario("text-classification")
SUITE = Path(__file__).parents[2] / "expectations" / "text-classification.yaml"
GOOD = [
    (f"这家店的第{word}样东西质量很好，还会再来。", label)
    for index in range(60)
    for word, label in ((f"{index}甲", "pos"), (f"{index}乙", "neg"))
]


def preprocessed(directory, rows):
    content = pa.RecordBatch.from_pylist(
        [
            {"id": f"{index:024x}", "origin": f"a.csv:{index + 2}", "parent_id": None, "text": text, "label": label}
            for index, (text, label) in enumerate(rows)
        ],
        schema=row_schema(SCENARIO.schema),
    )
    batch = SCENARIO.measure(content)
    with write_artifact(directory, kind="preprocessed") as draft:
        with ShardWriter(draft.path, batch.schema) as shards:
            shards.write(batch)
        draft.ledger = Ledger(rows_in=len(rows), rows_out=len(rows))
        draft.counts = {"rows": len(rows)}
    return read_artifact(directory)


def run_gate(base, rows, *, suite=SUITE, batch_rows=50, name="check"):
    data = preprocessed(base / "data", rows)
    return judge(data, base / name, suite=suite, scenario=SCENARIO, batch_rows=batch_rows, sample_rows=3)


def write_suite(base, text):
    path = base / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def failing(artifact, name):
    verdict = read_verdict(artifact.path)
    (one,) = [judgement for judgement in verdict.judgements if judgement.name == name]
    lines = (artifact.path / one.failing_ids).read_text().splitlines() if one.failing_ids else []
    return one, [int(json.loads(line)["id"], 16) for line in lines]


def test_good_data_passes_and_the_verdict_says_why_each_rule_is_there(tmp_path):
    artifact = run_gate(tmp_path, GOOD)
    assert (artifact.facts["passed"], artifact.facts["failed"]) == (True, [])
    verdict = read_verdict(artifact.path)
    assert verdict.passed and all(judgement.why for judgement in verdict.judgements)
    assert "passes" in verdict_markdown(verdict)


def test_every_failing_row_is_named_whatever_batch_it_was_in(tmp_path):
    rows = list(GOOD)
    rows[3] = (None, "pos")
    rows[60] = ("buy now at example dot com", "neg")
    rows[61] = ("很好<br>的东西，值得买，还会来", "spam")
    rows[119] = ("坏掉的字符\ufffd在这里，太差了\x07", None)
    artifact = run_gate(tmp_path, rows, batch_rows=7)
    assert failing(artifact, "expect_column_values_to_not_be_null(text)")[1] == [3]
    assert failing(artifact, "expect_column_values_to_not_be_null(label)")[1] == [119]
    assert failing(artifact, "expect_column_values_to_be_in_set(label)")[1] == [61]
    assert failing(artifact, "expect_column_values_to_be_in_set(has_html)")[1] == [61]
    assert failing(artifact, "expect_column_values_to_be_in_set(has_replacement)")[1] == [119]
    assert failing(artifact, "expect_column_values_to_be_between(num_control_chars)")[1] == [119]
    han_share, ids = failing(artifact, "expect_column_values_to_be_between(han_share)")
    assert ids == [3, 60]
    assert han_share.samples[1]["origin"] == "a.csv:62"
    assert han_share.samples[1]["text"] == rows[60][0]
    assert artifact.facts["passed"] is False


def test_duplicates_and_conflicts_fail_the_profile_and_are_named(tmp_path):
    rows = [*GOOD, *GOOD[:10], (GOOD[20][0], "neg")]
    artifact = run_gate(tmp_path, rows)
    duplicates, ids = failing(artifact, "expect_column_values_to_be_between(duplicate_share)")
    assert ids == list(range(120, 131))
    assert duplicates.observed == pytest.approx(11 / 131)
    conflicts, ids = failing(artifact, "expect_column_values_to_be_between(conflicting_keys)")
    assert (conflicts.observed, ids) == (1, [20, 130])
    assert {sample["label"] for sample in conflicts.samples} == {"pos", "neg"}
    shown = verdict_markdown(read_verdict(artifact.path))
    assert "fails** 2 of 14" in shown and "a.csv:132" in shown


def test_mostly_is_a_share_of_all_rows_and_not_of_a_batch(tmp_path):
    rows = [(text, "odd" if index < 6 else label) for index, (text, label) in enumerate(GOOD)]
    suite = (
        "rows:\n- {{expect: ExpectColumnValuesToBeInSet, column: label, value_set: [pos, neg], mostly: {}, why: w}}\n"
    )
    assert run_gate(tmp_path, rows, suite=write_suite(tmp_path, suite.format(0.95)), batch_rows=10).facts["passed"]
    strict = run_gate(tmp_path, rows, suite=write_suite(tmp_path, suite.format(0.951)), batch_rows=10)
    assert not strict.facts["passed"]
    assert failing(strict, "expect_column_values_to_be_in_set(label)")[1] == list(range(6))


def test_a_share_that_is_just_met_holds_whatever_floats_make_of_it(tmp_path):
    rows = [(text, "odd" if index < 7 else label) for index, (text, label) in enumerate(GOOD[:100])]
    suite = (
        "rows:\n- {expect: ExpectColumnValuesToBeInSet, column: label, value_set: [pos, neg], mostly: 0.93, why: w}\n"
    )
    assert run_gate(tmp_path, rows, suite=write_suite(tmp_path, suite)).facts["passed"]  # 1 - 7 / 100 < 0.93


def test_memory_is_bounded_by_the_batch(tmp_path, monkeypatch):
    seen = []
    run = Referee.run
    monkeypatch.setattr(Referee, "run", lambda self, frame: seen.append(len(frame)) or run(self, frame))
    run_gate(tmp_path, GOOD, batch_rows=50)
    assert seen == [50, 50, 20, 1]  # the last is the profile


def test_an_expectation_that_raised_is_an_error_and_no_verdict(tmp_path):
    suite = write_suite(
        tmp_path, "rows:\n- expect: expect_column_values_to_be_between\n  column: text\n  min_value: 3\n  why: w\n"
    )
    with pytest.raises(GateError) as caught:
        run_gate(tmp_path, GOOD, suite=suite)
    assert "suite.yaml:2" in str(caught.value) and "same type" in str(caught.value)
    assert not (tmp_path / "check").exists()


def test_an_expectation_that_was_dropped_is_an_error(tmp_path, monkeypatch):
    rules = [rule for rule in read_suite(SUITE) if rule.kind == "profile"]
    referee = Referee(rules[:1], {"result_format": "BASIC"})
    referee.rules = rules[:2]
    profile = profile_rows(
        preprocessed(tmp_path / "data", GOOD).path,
        content=SCENARIO.schema.names,
        target="label",
        duplicate_key=SCENARIO.duplicate_key,
        batch_rows=100,
    )
    import pandas as pd

    with pytest.raises(GateError, match="left out"):
        referee.run(pd.DataFrame([dict(profile.values)]))


def test_the_same_rows_give_the_same_bytes_and_a_page_that_asks_no_other_host(tmp_path):
    rows = [*GOOD, *GOOD[:10], ("<b>很好的东西，值得买</b>", "pos")]
    first = run_gate(tmp_path, rows)
    again = run_gate(tmp_path / "elsewhere", rows)
    assert digest_files(first.path) == digest_files(again.path)
    page = (first.path / "data_docs" / "index.html").read_text()
    assert "duplicate_share" in page
    assert "&lt;b&gt;很好的东西" in page and "<b>很好的东西" not in page
    for call in ("<script", "<link", 'src="http', "@import"):
        assert call not in page


ENTRY = "rows:\n  - expect: {expect}\n    column: {column}\n    why: {why}\n{more}"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (
            ENTRY.format(expect="expect_column_values_to_not_be_nul", column="text", why="w", more=""),
            2,
            "not_be_null`?",
        ),
        (ENTRY.format(expect="ExpectColumnValuesToNotBeNul", column="text", why="w", more=""), 2, "ToNotBeNull`?"),
        (
            ENTRY.format(
                expect="expect_column_values_to_be_between", column="num_chars", why="w", more="    min_valeu: 2\n"
            ),
            5,
            "did you mean `min_value`?",
        ),
        (
            ENTRY.format(
                expect="expect_column_values_to_be_between", column="num_chars", why="w", more="    min_value: [2]\n"
            ),
            5,
            "min_value",
        ),
        (ENTRY.format(expect="expect_column_values_to_not_be_null", column="txt", why="w", more=""), 2, "`text`?"),
        (ENTRY.format(expect="expect_column_values_to_not_be_null", column="text", why="''", more=""), 2, "no `why`"),
        (
            ENTRY.format(expect="expect_column_values_to_be_unique", column="text", why="w", more=""),
            2,
            "duplicate_share",
        ),
        (ENTRY.format(expect="expect_column_mean_to_be_between", column="text", why="w", more=""), 2, "profile"),
        (
            ENTRY.format(expect="expect_column_values_to_not_be_null", column="text", why="w", more="    mostly: 99\n"),
            5,
            "between 0 and 1",
        ),
        ("row:\n  - expect: x\n", 1, "did you mean `rows`?"),
        ("rows:\n  - column: text\n    why: w\n", 2, "names no expectation"),
        (
            "profile:\n  - {expect: expect_column_values_to_be_between, column: dup_share, max_value: 0, why: w}\n",
            2,
            "duplicate_share`?",
        ),
    ],
)
def test_a_slip_in_the_suite_is_named_with_its_line_and_the_nearest_name(tmp_path, text, line, says):
    suite = write_suite(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        check_columns(read_suite(suite), rows=["text", "label", "num_chars"], profile=["duplicate_share", "rows"])
    assert f"suite.yaml:{line}" in str(caught.value)
    assert says in str(caught.value)


def test_the_same_expectation_twice_is_an_error(tmp_path):
    entry = "  - {expect: expect_column_values_to_not_be_null, column: text, why: w}\n"
    with pytest.raises(ConfigError, match="twice"):
        read_suite(write_suite(tmp_path, "rows:\n" + entry + entry))


def test_two_expectations_on_one_line_are_an_error(tmp_path):
    entry = "{{expect: expect_column_values_to_not_be_null, column: {}, why: w}}"
    with pytest.raises(ConfigError, match="on one line"):
        read_suite(write_suite(tmp_path, f"rows: [{entry.format('text')}, {entry.format('label')}]\n"))


def test_a_missing_suite_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_suite(tmp_path / "none.yaml")
    assert "noria init" in str(caught.value)


def test_an_empty_shard_is_judged_by_its_profile(tmp_path):
    artifact = run_gate(tmp_path, [])
    assert "expect_column_values_to_be_between(rows)" in artifact.facts["failed"]


def test_another_scenario_column_set_is_profiled_alike(tmp_path):
    data = preprocessed(tmp_path / "data", [(None, "pos"), ("好", None), ("好", "pos"), ("好！", "neg")])
    scenario = replace(SCENARIO, target="label")
    values = profile_rows(
        data.path, content=["text", "label"], target=scenario.target, duplicate_key=scenario.duplicate_key, batch_rows=2
    ).values
    assert (values["rows"], values["null_share"], values["duplicate_rows"]) == (4, 0.5, 1)
    assert (values["conflicting_keys"], values["conflicting_rows"]) == (1, 2)
    assert (values["num_classes"], values["smallest_class_share"]) == (2, 0.5)


SUITE_OF_ONE = (
    "profile:\n- {expect: expect_column_values_to_be_between, column: duplicate_share, max_value: 0.02, why: w}\n"
)


def make_workspace(root, rows):
    (root / "expectations").mkdir(parents=True)
    (root / "expectations" / "text-classification.yaml").write_text(SUITE_OF_ONE)
    (root / "params.yaml").write_text("name: reviews\nscenario: text-classification\nsource: {path: none}\n")
    preprocessed(root / "data" / "preprocessed", rows)
    preprocessed(root / "data" / "cleaned", GOOD)
    return root


def run_node(root, *arguments):
    code = "import sys, runpy; runpy.run_module('tasks.check', run_name='__main__', alter_sys=True)"
    seen = (
        "import atexit; atexit.register(lambda: print('great_expectations' in sys.modules, 'prefect' in sys.modules))"
    )
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {seen}; {code}", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.slow
def test_a_fail_is_a_result_and_the_second_judgement_is_on_the_cleaned_data(tmp_path):
    root = make_workspace(tmp_path / "ws", [*GOOD, *GOOD])
    first, second = run_node(root), run_node(root, "--again")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert read_artifact(root / "reports/quality/check").facts["passed"] is False
    assert read_artifact(root / "reports/quality/recheck").facts["passed"] is True
    assert "failed 1 of 1" in first.stderr and "passed all" in second.stderr


@pytest.mark.slow
def test_after_a_pass_the_verdict_is_repeated_without_great_expectations(tmp_path):
    root = make_workspace(tmp_path / "ws", GOOD)
    first, second = run_node(root), run_node(root, "--again")
    assert (first.stdout.split(), second.stdout.split()) == (["True", "False"], ["False", "False"])
    reports = root / "reports" / "quality"
    assert digest_files(reports / "check") == digest_files(reports / "recheck")


@pytest.mark.slow
def test_a_suite_with_a_slip_ends_the_process_with_its_own_exit_code(tmp_path):
    root = make_workspace(tmp_path / "ws", GOOD)
    (root / "expectations" / "text-classification.yaml").write_text(SUITE_OF_ONE.replace("max_value", "max_valeu"))
    ended = run_node(root)
    assert ended.returncode == ConfigError.exit_code
    assert "did you mean `max_value`?" in ended.stderr and "Traceback" not in ended.stderr
