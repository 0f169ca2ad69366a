import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.data.profile import profile_rows, rows_at
from noria.data.rows import ShardWriter, row_schema

SCHEMA = row_schema(
    pa.schema([("text", pa.string()), ("label", pa.string()), ("num_chars", pa.int64()), ("flag", pa.bool_())])
)


def shards(directory, pairs):
    with ShardWriter(directory, SCHEMA, shard_rows=5) as writer:
        for index, (text, label) in enumerate(pairs):
            row = {"id": str(index), "origin": f"a:{index}", "parent_id": None, "text": text, "label": label}
            measured = {"num_chars": len(text or ""), "flag": text == "a"}
            writer.write(pa.RecordBatch.from_pylist([row | measured], schema=SCHEMA))
    return directory


def profile(directory):
    return profile_rows(
        directory,
        content=["text", "label"],
        target="label",
        duplicate_key=lambda row: str(row["text"]).casefold(),
        batch_rows=3,
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["a", "A", "b", "c", None]), st.sampled_from(["x", "y", None])), max_size=14))
def test_the_profile_is_what_a_plain_count_says(tmp_path_factory, pairs):
    found = profile(shards(Path(tmp_path_factory.mktemp("profile")), pairs))
    whole = [(n, t.casefold(), label) for n, (t, label) in enumerate(pairs) if t is not None and label is not None]
    labels, seen, duplicates = defaultdict(set), set(), []
    for n, key, label in whole:
        labels[key].add(label)
        if key in seen:
            duplicates.append(n)
        seen.add(key)
    conflicts = [n for n, key, _ in whole if len(labels[key]) > 1]
    classes = [sum(label == one for _, _, label in whole) for one in {label for _, _, label in whole}]
    assert found.duplicates.tolist() == duplicates
    assert found.conflicts.tolist() == conflicts
    pairs_in_conflict = {(key, label) for _, key, label in whole if len(labels[key]) > 1}
    shown = [(pairs[n][0].casefold(), pairs[n][1]) for n in found.contradictions]
    assert len(shown) == len(pairs_in_conflict) and set(shown) == pairs_in_conflict
    assert [key for key, _ in shown] == [key for key in dict.fromkeys(key for key, _ in shown) for _ in labels[key]]
    values = found.values
    assert values["rows"] == len(pairs)
    assert values["conflicting_keys"] == sum(len(names) > 1 for names in labels.values())
    assert values["null_share"] == pytest.approx(1 - len(whole) / len(pairs) if pairs else 0)
    assert values["duplicate_share"] == pytest.approx(len(duplicates) / len(pairs) if pairs else 0)
    assert values["smallest_class_share"] == pytest.approx(min(classes) / len(whole) if classes else 0)
    assert values["largest_class_share"] == pytest.approx(max(classes) / len(whole) if classes else 0)
    if pairs:
        assert values["num_chars_mean"] == pytest.approx(np.mean([len(text or "") for text, _ in pairs]))
        assert values["flag_share"] == pytest.approx(np.mean([text == "a" for text, _ in pairs]))


def test_rows_are_found_by_position_across_shards(tmp_path):
    shards(tmp_path, [(str(index), "x") for index in range(12)])
    found = rows_at(tmp_path, np.array([0, 4, 5, 11]), columns=["text"])
    assert [row["text"] for row in found] == ["0", "4", "5", "11"]


def test_numbers_that_no_float32_holds_are_its_largest_and_warn_of_nothing(tmp_path):
    schema = row_schema(pa.schema([("text", pa.string()), ("label", pa.string()), ("size", pa.float64())]))
    sizes = [1e300, -1e300, float("inf"), 1.0, 2.0]
    with ShardWriter(tmp_path, schema) as writer:
        base = {"origin": "a:1", "parent_id": None, "text": "a", "label": "x"}
        rows = [base | {"id": str(number), "size": size} for number, size in enumerate(sizes)]
        writer.write(pa.RecordBatch.from_pylist(rows, schema=schema))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = profile(tmp_path).values
    assert all(np.isfinite(value) for value in values.values())
    assert values["size_median"] == 2.0
