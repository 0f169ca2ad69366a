"""Questions from SQuAD's JSON: every question is a row or in quarantine with the reason."""

import json

import pytest

from noria.config import SourceConfig
from noria.data.ingest import ingest
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows
from noria.errors import ConfigError, SourceError
from noria.scenarios.question_answering import SCHEMA


def read(path, **source):
    made = ingest(
        SourceConfig(path=path.name, **source),
        schema=SCHEMA,
        target="answer",
        base=path.parent,
        raw=path.parent / "raw",
        quarantine=path.parent / "quarantine",
    )
    return list(read_rows(path.parent / "raw")), list(read_quarantine(path.parent / "quarantine")), made


def write(path, data, **more):
    path.write_text(json.dumps({**more, "data": data}, ensure_ascii=False), encoding="utf-8")
    return path


QAS = [
    {"id": "1", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 0}]},
    {"question": "What?", "answers": [{"text": t, "answer_start": 11} for t in ("red", "red", "a red", "red one")]},
    {"question": "Why?", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "red"}]},
]


@pytest.mark.parametrize("more", [{"version": "1.1"}, {"version": "v2.0"}, {}])
def test_both_versions_are_read_whatever_the_ending_says_of_json(tmp_path, more):
    data = [{"title": "Persons", "paragraphs": [{"context": "Anna likes red 😀.", "qas": QAS}]}]
    rows, refused, _ = read(write(tmp_path / "train.json", data, **more))
    assert not refused
    assert [(r["answer"], r["answer_start"], r["other_answers"]) for r in rows] == [
        ("Anna", "0", ""),
        ("red", "11", '["a red", "red one"]'),
        ("", "", ""),
    ]
    assert {r["document"] for r in rows} == {"Persons"} and rows[2]["origin"] == "train.json:3"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([3], "paragraphs"),
        ([{"title": "x"}], "paragraphs"),
        ([{"paragraphs": [{"qas": QAS}]}], "context"),
        ([{"paragraphs": [{"context": "x", "qas": 3}]}], "qas"),
        ([{"paragraphs": [{"context": "x", "qas": [3]}]}], "question"),
        ([{"paragraphs": [{"context": "x", "qas": [{"question": "Q", "answers": []}]}]}], "is_impossible"),
        ([{"paragraphs": [{"context": "x", "qas": [{"question": "Q", "answers": [{"text": " "}]}]}]}], "is_impossible"),
        ([{"paragraphs": [{"context": "x", "qas": [{"question": "Q", "answers": [{"text": 3}]}]}]}], "answers"),
        ([{"paragraphs": [{"context": "x", "qas": [{"question": "Q", "answers": "x"}]}]}], "answers"),
    ],
)
def test_what_is_no_question_goes_to_quarantine_with_the_reason(tmp_path, data, reason):
    good = {"paragraphs": [{"context": "Anna likes red.", "qas": QAS}]}
    rows, refused, made = read(write(tmp_path / "train.json", [*data, good]))
    assert len(rows) == 3 and len(refused) == 1 and reason in refused[0].reason
    assert made.counts == {"files": 1, "rows": 3, "quarantined": 1}


def test_a_question_that_is_too_large_goes_to_quarantine(tmp_path):
    data = [{"paragraphs": [{"context": "x" * 5_000, "qas": QAS[:1]}, {"context": "Anna", "qas": QAS[:1]}]}]
    rows, refused, _ = read(write(tmp_path / "train.json", data), max_row_bytes=1_000)
    assert len(rows) == 1 and refused[0].rule == "too_long"


@pytest.mark.parametrize("text", ['{"data": [', '{"data": 3}', "[]", "\x00", '{"data": [' + "[" * 100_000])
def test_a_file_that_is_no_such_json_is_an_error_that_names_it(tmp_path, text):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(SourceError, match="SQuAD"):
        read(tmp_path / "train.json", format="squad")


def test_json_lines_and_tables_are_read_as_such_with_optional_columns_left_out(tmp_path):
    (tmp_path / "rows.json").write_text(
        '{"context": "Anna likes red.", "question": "Who?", "answer": "Anna", "answer_start": 0}\n'
    )
    rows, _, _ = read(tmp_path / "rows.json")
    assert rows[0]["answer_start"] == "0" and rows[0]["document"] == "" and rows[0]["other_answers"] == ""
    (tmp_path / "rows.csv").write_text("passage,question,answer\nAnna likes red.,Who?,Anna\n")
    rows, _, _ = read(tmp_path / "rows.csv", columns={"context": "passage"})
    assert rows[0]["context"] == "Anna likes red." and rows[0]["answer_start"] == ""


def test_more_columns_than_a_question_has_are_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match="topic"):
        read(write(tmp_path / "train.json", [{"paragraphs": []}]), carry=["topic"])


def test_a_byte_order_mark_and_other_keys_before_the_data_are_no_obstacle(tmp_path):
    data = [{"paragraphs": [{"context": "Anna likes red.", "qas": QAS[:1]}]}]
    text = json.dumps({"version": "1.1", "lang": "en", "size": 3, "data": data})
    path = tmp_path / "train.json"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    rows, refused, _ = read(path)
    assert not refused and [row["answer"] for row in rows] == ["Anna"]


def test_a_blank_answer_beside_others_is_left_out(tmp_path):
    answers = [{"text": "", "answer_start": 0}, {"text": "Anna", "answer_start": 0}]
    data = [{"paragraphs": [{"context": "Anna likes red.", "qas": [{"question": "Who?", "answers": answers}]}]}]
    rows, refused, _ = read(write(tmp_path / "train.json", data))
    assert not refused and [(row["answer"], row["other_answers"]) for row in rows] == [("Anna", "")]


def test_an_absurd_number_is_the_fault_of_its_question_alone(tmp_path):
    text = json.dumps({"data": [{"paragraphs": [{"context": "Anna likes red.", "qas": QAS}]}]})
    start = f'"answer_start": {QAS[0]["answers"][0]["answer_start"]}'
    assert start in text
    (tmp_path / "train.json").write_text(text.replace(start, '"answer_start": ' + "9" * 5_000, 1))
    rows, refused, _ = read(tmp_path / "train.json")
    assert not refused and [row["answer_start"] for row in rows] == ["inf", "11", ""]
