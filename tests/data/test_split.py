"""Augment and split: no row changes sides, none leaks, none is lost."""

import json
import random

import numpy as np
import pytest
from row_artifacts import SCENARIO, preprocessed, refused_by, rows_of, verdict

from noria.config import AugmentConfig, CleanConfig, PreprocessConfig, SourceConfig, SplitConfig
from noria.data.augment import augment_rows
from noria.data.clean import clean_rows
from noria.data.ingest import ingest
from noria.data.preprocess import preprocess_rows
from noria.data.sides import in_validation
from noria.data.split import split_rows
from noria.errors import ConfigError, GateRefused

CONFIG = SplitConfig(validation_share=0.3)


def pairs_with_near_duplicates(num_rows, seed=0):
    """Reviews of 30 characters in clusters of 1 to 4 that differ in a few characters."""
    generator = np.random.default_rng(seed)
    alphabet = np.array(list("物流很快质量好不错喜欢推荐下次再来买的价格服务态度房间干净舒适安静"))
    pairs = []
    while len(pairs) < num_rows:
        original = generator.choice(alphabet, 30)
        for _ in range(generator.integers(1, 5)):
            copy = original.copy()
            copy[generator.integers(0, 30, generator.integers(0, 4))] = generator.choice(alphabet)
            pairs.append(("".join(copy), str(generator.choice(["neg", "pos"]))))
    return pairs[:num_rows]


def augment(directory, rows, *, share, passed=True):
    return augment_rows(
        rows,
        verdict(directory / "verdict", passed=passed),
        directory / "augmented",
        scenario=SCENARIO,
        config=AugmentConfig(share=share),
        split=CONFIG,
        seed=1,
    )


def split(directory, rows, config=CONFIG):
    return split_rows(
        rows, directory / "splits", quarantine=directory / "quarantine" / "split", scenario=SCENARIO, config=config
    )


def sides(splits):
    return {id: side for side in ("train", "validation") for id in rows_of(splits, side)}


def similarity(left, right):
    a, b = ({text[i : i + 3] for i in range(len(text) - 2)} for text in (left, right))
    return len(a & b) / len(a | b)


def test_no_near_duplicate_pair_lies_across_the_split(tmp_path):
    pairs = pairs_with_near_duplicates(300)
    splits = split(tmp_path, augment(tmp_path, preprocessed(tmp_path, pairs), share=0.5))
    keys = {
        side: [SCENARIO.duplicate_key(row) for row in rows_of(splits, side).values()]
        for side in ("train", "validation")
    }
    worst = max(similarity(left, right) for left in keys["train"] for right in keys["validation"])
    assert worst < CONFIG.near_duplicate_similarity
    refused = refused_by(tmp_path / "quarantine" / "split")
    assert {row.rule for row in refused.values()} == {"near_validation"}
    assert splits.ledger.rows_out + len(refused) == splits.ledger.rows_in


def test_no_row_changes_sides_as_rows_are_added_in_any_order(tmp_path):
    pairs = pairs_with_near_duplicates(240)
    seen = {}
    for step, num_rows in enumerate((60, 120, 240)):
        grown = pairs[:num_rows]
        random.Random(step).shuffle(grown)
        directory = tmp_path / str(step)
        now = sides(split(directory, preprocessed(directory, grown)))
        for id, side in seen.items():
            assert now.get(id, side) == side, "a row may leave the training set, never change sides"
            assert side == "train" or id in now, "validation only grows"
        seen.update(now)
    assert set(seen.values()) == {"train", "validation"}


def test_copies_of_a_validation_row_leave_the_training_set(tmp_path):
    copies = [("这是同一条评论", "pos")] * 40
    splits = split(tmp_path, preprocessed(tmp_path, [*copies, *pairs_with_near_duplicates(40)]))
    sides = [{row["text"] for row in rows_of(splits, side).values()} for side in ("train", "validation")]
    assert [copies[0][0] in texts for texts in sides] == [False, True]
    rules = [row.rule for row in refused_by(tmp_path / "quarantine" / "split").values()]
    kept = sum(row["text"] == copies[0][0] for row in rows_of(splits, "validation").values())
    assert kept + rules.count("near_validation") >= 40


def test_a_split_with_an_empty_side_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="none is on the train side"):
        split(tmp_path, preprocessed(tmp_path, [("这是同一条评论", "pos")] * 40))


def test_validation_holds_originals_only_and_children_follow_their_parents(tmp_path):
    cleaned = preprocessed(tmp_path, pairs_with_near_duplicates(200))
    augmented = augment(tmp_path, cleaned, share=1.0)
    assert augmented.ledger.rows_out == augmented.ledger.rows_in + augmented.ledger.added
    splits = split(tmp_path, augmented)
    train, validation = rows_of(splits, "train"), rows_of(splits, "validation")
    children = [row for row in train.values() if row["parent_id"]]
    assert len(children) == splits.counts["augmented"] > 50
    assert all(row["parent_id"] is None for row in validation.values())
    assert all(row["group"] == row["parent_id"] for row in children)
    assert {row["parent_id"] for row in children} <= train.keys()
    originals = rows_of(cleaned)
    assert all(row["label"] == originals[row["parent_id"]]["label"] for row in children)
    assert not {row["group"] for row in train.values()} & {row["group"] for row in validation.values()}
    assert all(in_validation(row["group"], CONFIG) for row in validation.values())


def test_children_of_validation_rows_are_refused_when_another_share_made_them(tmp_path):
    augmented = augment(tmp_path, preprocessed(tmp_path, pairs_with_near_duplicates(100)), share=1.0)
    splits = split(tmp_path, augmented, SplitConfig(validation_share=0.6))
    rules = {row.rule for row in refused_by(tmp_path / "quarantine" / "split").values()}
    assert "augmented_validation" in rules
    assert all(row["parent_id"] is None for row in rows_of(splits, "validation").values())


def test_augmentation_depends_on_the_row_and_the_seed_alone(tmp_path):
    pairs = pairs_with_near_duplicates(40)
    few = rows_of(augment(tmp_path / "few", preprocessed(tmp_path / "few", pairs[:20]), share=0.7))
    many = rows_of(augment(tmp_path / "many", preprocessed(tmp_path / "many", pairs), share=0.7))
    kept = {id for id, row in many.items() if (row["parent_id"] or id) in few}
    assert {id: row["text"] for id, row in few.items()} == {id: many[id]["text"] for id in kept}


def test_without_augmentation_no_bytes_are_written(tmp_path):
    cleaned = preprocessed(tmp_path, [("很好", "pos")])
    augmented = augment(tmp_path, cleaned, share=0.0)
    assert (augmented.path / "part-00000.parquet").samefile(cleaned.path / "part-00000.parquet")
    assert augmented.counts == {"rows": 1, "added": 0}


def test_augment_refuses_data_that_failed_the_gate_and_says_what_failed_and_what_was_lost(tmp_path):
    before = preprocessed(tmp_path, [("很好", "pos"), ("太差", "bad")])
    failed = verdict(tmp_path / "verdict", passed=False, failing_labels=[list(rows_of(before))[1]])
    quarantine = tmp_path / "quarantine" / "clean"
    cleaned = clean_rows(
        before, failed, tmp_path / "cleaned", quarantine=quarantine, scenario=SCENARIO, config=CleanConfig()
    )
    with pytest.raises(GateRefused, match="quality check") as refusal:
        augment(tmp_path / "next", cleaned, share=0.0, passed=False)
    assert "label (neg or pos)" in refusal.value.what
    assert "1 of 2 rows to quarantine, for example rows:2: `label` should be neg or pos" in refusal.value.what
    assert not (tmp_path / "next" / "augmented").exists()


def test_rows_of_one_author_stay_together_when_the_source_carries_the_author(tmp_path):
    lines = [f"{text},{label},author {n % 9}" for n, (text, label) in enumerate(pairs_with_near_duplicates(90))]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label,author", *lines]), encoding="utf-8")
    raw = ingest(
        SourceConfig(path="reviews.csv", carry=("author",)),
        schema=SCENARIO.schema,
        target=SCENARIO.target,
        base=tmp_path,
        raw=tmp_path / "raw",
        quarantine=tmp_path / "quarantine" / "ingest",
    )
    measured = preprocess_rows(
        raw, tmp_path / "preprocessed", measure=SCENARIO.measure, config=PreprocessConfig(batch_rows=20)
    )
    cleaned = clean_rows(
        measured,
        verdict(tmp_path / "verdict", passed=False),
        tmp_path / "cleaned",
        quarantine=tmp_path / "quarantine" / "clean",
        scenario=SCENARIO,
        config=CleanConfig(),
    )
    splits = split(tmp_path, cleaned, SplitConfig(group_by="author", validation_share=0.3))
    authors = [{row["author"] for row in rows_of(splits, side).values()} for side in ("train", "validation")]
    assert all(authors)
    assert not authors[0] & authors[1]
    assert all(row["group"] == row["author"] for row in rows_of(splits, "validation").values())


def test_an_unknown_group_column_is_named_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="`author`") as error:
        split(tmp_path, preprocessed(tmp_path, [("很好", "pos")]), SplitConfig(group_by="author"))
    assert "label" in error.value.expected


@pytest.mark.parametrize("column", ["author", "num_chars"])  # measured columns come and go with the cleaner
def test_augment_names_an_unknown_group_column_too(tmp_path, column):
    with pytest.raises(ConfigError, match=f"`{column}`"):
        augment_rows(
            preprocessed(tmp_path, [("很好", "pos")]),
            verdict(tmp_path / "verdict", passed=True),
            tmp_path / "augmented",
            scenario=SCENARIO,
            config=AugmentConfig(share=1.0),
            split=SplitConfig(group_by=column),
            seed=1,
        )


@pytest.mark.parametrize(("share", "side"), [(0.001, "validation"), (0.999, "train")])
def test_a_side_without_rows_is_an_error_that_says_what_decides(tmp_path, share, side):
    rows = preprocessed(tmp_path, pairs_with_near_duplicates(5))
    with pytest.raises(ConfigError, match=f"none is on the {side} side"):
        split(tmp_path, rows, SplitConfig(validation_share=share))
    assert not (tmp_path / "splits").exists()


def test_the_share_is_kept_and_a_larger_share_keeps_what_a_smaller_one_held(tmp_path):
    groups = [str(n) for n in range(20_000)]
    small, large = (
        {group for group in groups if in_validation(group, SplitConfig(validation_share=share))} for share in (0.1, 0.2)
    )
    assert small < large
    assert len(small) == pytest.approx(2_000, abs=150)


def test_counts_hold_the_class_balance_of_each_side(tmp_path):
    splits = split(tmp_path, preprocessed(tmp_path, pairs_with_near_duplicates(80)))
    manifest = json.loads((splits.path / "manifest.json").read_text())
    for side in ("train", "validation"):
        assert sum(manifest["facts"]["labels"][side].values()) == splits.counts[side]
