"""What clients may send of an image and a text, and what a row may lack."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from noria.config import CleanConfig, SourceConfig
from noria.data import image_text
from noria.data.ingest import ingest
from noria.data.media import to_base64
from noria.data.pixels import encode_png
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows
from noria.scenarios import load_scenario

SCENARIO = load_scenario("image-text-classification")
PNG = encode_png(np.random.default_rng(0).integers(0, 256, (12, 12, 1), dtype=np.uint8))
BLANK = encode_png(np.full((12, 12, 1), 7, np.uint8))
OTHER = encode_png(np.random.default_rng(1).integers(0, 256, (12, 12, 1), dtype=np.uint8))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "an image, a text, or both"),
        ({"text": " \n", "image": ""}, "an image, a text, or both"),
        ({"text": "a", "image": "no base64!"}, "not base64"),
        ({"text": "a", "image": to_base64(b"a text")}, "no image of PNG"),
        ({"text": "a", "picture": ""}, "Extra inputs"),
    ],
)
def test_a_request_with_nothing_or_nonsense_is_refused_with_the_reason(request_, message):
    with pytest.raises(ValidationError, match=message):
        SCENARIO.request.model_validate(request_)


@pytest.mark.parametrize("row", [{"image": PNG, "text": "a"}, {"image": b"", "text": "a"}, {"image": PNG, "text": ""}])
def test_a_row_is_the_same_after_a_request_whatever_it_lacks(row):
    assert SCENARIO.row_of(SCENARIO.request.model_validate(SCENARIO.as_request(row))) == row


def read(tmp_path, source):
    artifact = ingest(
        source,
        schema=SCENARIO.schema,
        target="label",
        base=tmp_path,
        raw=tmp_path / "raw",
        quarantine=tmp_path / "refused",
    )
    return [(row["image"], row["text"], row["label"]) for row in read_rows(artifact.path)]


def test_what_a_row_or_a_whole_table_lacks_is_empty(tmp_path):
    found = pa.table(
        {
            "image": [{"bytes": PNG, "path": None}, {"bytes": None, "path": None}, None],
            "text": [None, "here", "there"],
            "label": ["a", "b", "c"],
        }
    )
    pq.write_table(found, tmp_path / "rows.parquet")
    rows = [(PNG, "", "a"), (b"", "here", "b"), (b"", "there", "c")]
    assert read(tmp_path, SourceConfig(path="rows.parquet")) == rows

    pq.write_table(found.drop_columns(["image"]), tmp_path / "texts.parquet")
    assert read(tmp_path / "..", SourceConfig(path=str(tmp_path / "texts.parquet")))[1] == (b"", "here", "b")

    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "a.png").write_bytes(PNG)
    with (tmp_path / "named" / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label"], ["a.png", "a"], ["", "b"]])
    assert read(tmp_path, SourceConfig(path="named")) == [(PNG, "", "a"), (b"", "", "b")]


def test_a_file_without_bytes_is_a_fault_and_not_a_missing_image(tmp_path):
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "empty.png").write_bytes(b"")
    (tmp_path / "named" / "rows.jsonl").write_text(
        '{"image": "empty.png", "text": "here", "label": "a"}\n{"image": null, "text": "there", "label": "b"}\n'
        '{"image": 0, "text": "there", "label": "b"}\n'
    )
    assert read(tmp_path, SourceConfig(path="named")) == [(b"", "there", "b")]
    refused = {row.rule for row in read_quarantine(tmp_path / "refused")}
    assert "empty_file" in refused and len(refused) == 2


def test_images_in_idx_have_no_text(tmp_path):
    (tmp_path / "digits").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 9), dtype=np.uint8)
    head = (0x803).to_bytes(4, "big") + b"".join(size.to_bytes(4, "big") for size in images.shape)
    (tmp_path / "digits" / "train-images-idx3-ubyte").write_bytes(head + images.tobytes())
    labels = (0x801).to_bytes(4, "big") + (2).to_bytes(4, "big") + bytes([3, 7])
    (tmp_path / "digits" / "train-labels-idx1-ubyte").write_bytes(labels)
    assert [row[1:] for row in read(tmp_path, SourceConfig(path="digits"))] == [("", "3"), ("", "7")]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"image": b"", "text": " ", "label": "a"}, "nothing"),
        ({"image": None, "text": None, "label": "a"}, "nothing"),
        ({"image": PNG[:60], "text": "a good text", "label": "a"}, "broken_image"),
        ({"image": BLANK, "text": "a good text", "label": "a"}, "blank"),
        ({"image": PNG, "text": "a good text", "label": " "}, "missing_label"),
        ({"image": PNG, "text": "x" * 3_000, "label": "a"}, "too_long"),
    ],
)
def test_a_row_with_a_fault_in_either_is_refused(row, rule):
    repaired = image_text.repair(row, CleanConfig(min_han_share=0.0))
    assert repaired.values is None and repaired.rule == rule and repaired.reason


def test_a_text_is_repaired_and_a_missing_one_stays_missing():
    config = CleanConfig(min_han_share=0.0)
    repaired = image_text.repair({"image": PNG, "text": "<b>a good</b>  text", "label": " a"}, config)
    assert repaired.values == {"image": PNG, "text": "a good text", "label": "a"}
    assert repaired.repairs == ("label_whitespace", "html", "whitespace")
    for nothing in (None, "\u200b", "<br>"):
        values = image_text.repair({"image": PNG, "text": nothing, "label": "a"}, config).values
        assert values == {"image": PNG, "text": "", "label": "a"}
    assert image_text.repair({"image": PNG, "text": None, "label": "a"}, config).values == {
        "image": PNG,
        "text": "",
        "label": "a",
    }


def test_rows_are_copies_if_both_are_the_same_and_leak_by_their_text():
    row = {"image": PNG, "text": "A text!", "label": "a"}
    same_text = {**row, "image": OTHER, "text": "a text"}
    keys = {image_text.duplicate_key(each) for each in (row, same_text, {**row, "text": ""}, {**row, "image": b""})}
    assert len(keys) == 4
    assert image_text.leak_key(row) == image_text.leak_key(same_text)
    without = [{**row, "text": "", "image": image} for image in (PNG, OTHER)]
    assert image_text.leak_key(without[0]) != image_text.leak_key(without[1])


def test_what_is_missing_has_no_fault_when_it_is_measured():
    batch = pa.RecordBatch.from_pylist(
        [
            {"image": PNG, "text": "here", "label": "a"},
            {"image": b"", "text": "here", "label": "a"},
            {"image": BLANK, "text": "", "label": "a"},
            {"image": None, "text": None, "label": "a"},
            {"image": PNG[:60], "text": "", "label": "a"},
        ],
        schema=SCENARIO.schema,
    )
    found = image_text.measure(batch)
    flags = {name: found.column(name).to_pylist() for name in ("has_image", "is_empty", "decodable", "is_blank")}
    assert flags == {
        "has_image": [True, False, True, False, True],
        "is_empty": [False, False, False, True, False],
        "decodable": [True, True, True, True, False],
        "is_blank": [False, False, True, False, False],
    }
