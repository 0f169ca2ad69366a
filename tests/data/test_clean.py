"""Clean: every row comes out once, repaired or refused with the right reason."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_artifacts import SCENARIO, preprocessed, refused_by, rows_of, verdict

from noria.config import CleanConfig
from noria.data.clean import clean_rows

LONG = "这家酒店的位置很好，离地铁站只有五分钟的路，房间也很干净，早餐丰富，服务员的态度非常热情，下次来还会住这里"
NEARLY = LONG + "了呢"


def clean(directory, rows, *, config=None, passed=False, **failing):
    return clean_rows(
        rows,
        verdict(directory / "verdict", passed=passed, **failing),
        directory / "cleaned",
        quarantine=directory / "quarantine" / "clean",
        scenario=SCENARIO,
        config=config or CleanConfig(),
    )


def outcome(directory, pairs, **options):
    """What became of each row, in order: its repaired text, or the rule it broke."""
    before = preprocessed(directory, pairs)
    cleaned = clean(directory, before, **options)
    kept, refused = rows_of(cleaned), refused_by(directory / "quarantine" / "clean")
    return [kept[id]["text"] if id in kept else refused[id].rule for id in rows_of(before)]


def test_repairs_refuses_and_keeps_one_row_of_each_text(tmp_path):
    pairs = [
        ("很好&amp;推荐", "pos"),
        ("很 好，推荐！", "pos"),
        ("很好推荐", "pos"),
        ("不好", None),
        ("bad", "neg"),
        (None, "neg"),
        (LONG, "pos"),
        (NEARLY, "pos"),
    ]
    assert outcome(tmp_path, pairs) == [
        "很好&推荐",
        "duplicate",
        "duplicate",
        "missing_label",
        "wrong_script",
        "empty",
        LONG,
        "near_duplicate",
    ]


def test_equal_and_nearly_equal_texts_with_several_labels_are_all_refused(tmp_path):
    pairs = [
        ("好评好评", "pos"),
        ("好评，好评", "neg"),
        (LONG, "pos"),
        (NEARLY, "neg"),
        ("一般", "neg"),
    ]
    assert outcome(tmp_path, pairs) == ["label_conflict"] * 4 + ["一般"]


def test_majority_keeps_the_first_row_of_the_more_frequent_label(tmp_path):
    pairs = [("好评", "neg"), ("好评", "pos"), ("好评！", "pos"), ("差评", "neg"), ("差评", "pos")]
    config = CleanConfig(label_conflicts="majority")
    assert outcome(tmp_path, pairs, config=config) == [
        "label_conflict", "好评", "duplicate", "label_conflict", "label_conflict",
    ]  # fmt: skip


def test_reasons_name_the_row_that_stands_for_a_duplicate(tmp_path):
    before = preprocessed(tmp_path, [("很好推荐", "pos"), ("很好推荐！", "pos")])
    clean(tmp_path, before)
    kept, duplicate = rows_of(before)
    refused = refused_by(tmp_path / "quarantine" / "clean")[duplicate]
    assert kept in refused.reason
    assert (refused.stage, refused.origin, refused.payload["text"]) == ("clean", "rows:2", "很好推荐！")


def test_rows_with_a_label_that_the_gate_refuses_go_to_quarantine(tmp_path):
    before = preprocessed(tmp_path, [("很好推荐", "pos"), ("不好不推荐", "postive")])
    wrong = list(rows_of(before))[1]
    cleaned = clean(tmp_path, before, failing_labels=[wrong])
    assert wrong not in rows_of(cleaned)
    refused = refused_by(tmp_path / "quarantine" / "clean")[wrong]
    assert refused.rule == "broken_expectation"
    assert "neg or pos" in refused.reason


def test_a_repaired_text_does_not_excuse_the_label(tmp_path):
    before = preprocessed(tmp_path, [("很好推荐", "pos"), ("<b>不好</b>不推荐", "postive"), ("<b>太差</b>失望", "neg")])
    _, wrong, mended = rows_of(before)
    both = [wrong, mended]
    cleaned = clean(tmp_path, before, failing_labels=[wrong], failing_texts=both)
    assert wrong not in rows_of(cleaned) and mended in rows_of(cleaned)
    assert "neg or pos" in refused_by(tmp_path / "quarantine" / "clean")[wrong].reason


def test_after_a_pass_nothing_is_altered_and_no_bytes_are_written(tmp_path):
    before = preprocessed(tmp_path, [("<b>很好</b>", "pos")] * 3)
    cleaned = clean(tmp_path, before, passed=True)
    assert cleaned.digest == before.digest
    assert cleaned.facts["passed_through"]
    assert (cleaned.path / "part-00000.parquet").samefile(before.path / "part-00000.parquet")
    assert refused_by(tmp_path / "quarantine" / "clean") == {}


def test_a_source_with_only_bad_rows_leaves_an_empty_artifact(tmp_path):
    cleaned = clean(tmp_path, preprocessed(tmp_path, [("bad", "neg"), ("worse", "neg")]))
    assert (cleaned.counts, rows_of(cleaned)) == ({"rows": 0, "quarantined": 2}, {})


PIECES = st.sampled_from(["很好", "不好", "推荐", "，", "！", "<br>", "&lt;", "\x00", "\ufffd", "ç‰©", "Ａ", " ", LONG])
TEXTS = st.one_of(st.none(), st.lists(PIECES, max_size=4).map("".join), st.text(max_size=8))
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(["pos", "neg", None])), min_size=1, max_size=30)


@settings(deadline=None, max_examples=40)
@given(pairs=ROWS, policy=st.sampled_from(["quarantine", "majority"]), similarity=st.sampled_from([0.5, 0.9, 1.0]))
def test_every_row_is_accounted_for_by_id_and_cleaning_twice_changes_nothing(pairs, policy, similarity):
    config = CleanConfig(label_conflicts=policy, near_duplicate_similarity=similarity)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        before = preprocessed(directory, pairs)
        cleaned = clean(directory, before, config=config)
        kept, refused = rows_of(cleaned), refused_by(directory / "quarantine" / "clean")
        ids = list(rows_of(before))
        assert len(ids) == len(pairs) == cleaned.ledger.rows_in
        assert kept.keys() | refused.keys() == set(ids)
        assert not kept.keys() & refused.keys()
        assert list(kept) == [id for id in ids if id in kept], "order stays"
        again = clean(directory, cleaned, config=config)
        assert again.counts == {"rows": len(kept), "quarantined": 0}
        assert rows_of(again) == kept


@pytest.mark.parametrize("rows", [1, 40])
def test_equal_input_gives_equal_bytes(tmp_path, rows):
    pairs = [(f"第{n}条评论很好", "pos") for n in range(rows)]
    before = preprocessed(tmp_path, pairs)
    assert clean(tmp_path, before).digest == clean(tmp_path, before).digest
