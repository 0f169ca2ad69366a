import csv
import gzip
import io
import json
import tracemalloc

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.artifacts import read_artifact
from noria.config import SourceConfig
from noria.data.ingest import ingest
from noria.data.quarantine import read_quarantine
from noria.data.rows import content_id, read_rows
from noria.errors import ConfigError, SourceError

SCHEMA = pa.schema([pa.field("text", pa.string()), pa.field("label", pa.string())])
ROWS = [("很好，还会再来", "pos"), ('说"好"的人', "neg"), ("第一行\n第二行", "pos"), ("很好，还会再来", "pos")]


def read(base, *, schema=SCHEMA, **source):
    return ingest(
        SourceConfig(**source),
        schema=schema,
        target="label",
        base=base,
        raw=base / "out" / "raw",
        quarantine=base / "out" / "ingest",
    )


def rows_of(base):
    return [(row["text"], row["label"]) for row in read_rows(base / "out" / "raw")]


def refused(base):
    return {row.origin: row.rule for row in read_quarantine(base / "out" / "ingest")}


def as_csv(rows, *, header=("text", "label"), **options):
    file = io.StringIO()
    csv.writer(file, **options).writerows([header, *rows])
    return file.getvalue().encode()


def as_jsonl(rows):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows).encode()


def as_parquet(rows):
    sink = io.BytesIO()
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("reviews.csv", as_csv(ROWS)),
        ("reviews.tsv", as_csv(ROWS, delimiter="\t")),
        ("excel.csv", b"\xef\xbb\xbf" + as_csv(ROWS, delimiter=";")),
        ("reviews.csv.gz", gzip.compress(as_csv(ROWS), mtime=0)),
        ("reviews.jsonl", as_jsonl(ROWS)),
        ("reviews.parquet", as_parquet(ROWS)),
    ],
)
def test_every_format_gives_the_same_rows_and_ids(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    artifact = read(tmp_path, path=name)
    assert rows_of(tmp_path) == ROWS
    assert artifact.counts == {"files": 1, "rows": 4, "quarantined": 0}
    ids = [row["id"] for row in read_rows(artifact.path)]
    occurrences = [0, 0, 0, 1]
    assert ids == [
        content_id({"text": text, "label": label}, n) for (text, label), n in zip(ROWS, occurrences, strict=True)
    ]


@pytest.mark.parametrize(
    ("layout", "label_from"),
    [(["pos.txt", "neg.txt"], "file"), (["pos/a.txt", "neg/b.txt"], "directory")],
)
def test_the_label_is_the_name_of_the_file_or_of_its_directory(tmp_path, layout, label_from):
    for name in layout:
        (tmp_path / "reviews" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "reviews" / name).write_text("一\n \u3000\n二\n")
    (tmp_path / "reviews" / ".hidden.txt").write_text("三\n")
    (tmp_path / "reviews" / "README.md").write_text("四\n")
    artifact = read(tmp_path, path="reviews", label_from=label_from)
    assert rows_of(tmp_path) == [("一", "neg"), ("二", "neg"), ("一", "pos"), ("二", "pos")]
    assert [row["origin"] for row in read_rows(artifact.path)][:2] == [f"{layout[1]}:1", f"{layout[1]}:3"]


def test_columns_are_mapped_and_numbers_become_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"review": "好", "stars": 5, "user": 1}\n')
    read(tmp_path, path="a.jsonl", columns={"text": "review", "label": "stars"})
    assert rows_of(tmp_path) == [("好", "5")]


def test_records_that_are_none_go_to_quarantine_with_their_line(tmp_path):
    (tmp_path / "a.csv").write_bytes(as_csv(ROWS[:1]) + b'x\n"open,pos\n' + as_csv(ROWS[1:2])[12:] + b"\xff\xfe,pos\n")
    (tmp_path / "b.jsonl").write_bytes(
        as_jsonl(ROWS[:1]) + b'{"text": \n[1]\n{"text": "t"}\n{"text": {}, "label": "pos"}\n'
    )
    artifact = read(tmp_path, path=".")
    assert refused(tmp_path) == {
        "a.csv:3": "field_count",
        "a.csv:4": "malformed_csv",
        "a.csv:6": "invalid_encoding",
        "b.jsonl:2": "malformed_json",
        "b.jsonl:3": "malformed_json",
        "b.jsonl:4": "missing_column",
        "b.jsonl:5": "wrong_type",
    }
    assert rows_of(tmp_path) == [*ROWS[:2], ROWS[0]]
    assert artifact.ledger is not None
    assert (artifact.ledger.rows_in, artifact.ledger.quarantined) == (10, 7)


def test_bytes_of_another_encoding_cost_their_row_only_and_are_kept(tmp_path):
    bad = "不好".encode("gbk")
    (tmp_path / "pos.txt").write_bytes("好\n".encode() + bad + "\n很好\n".encode())
    read(tmp_path, path="pos.txt", label_from="file")
    assert rows_of(tmp_path) == [("好", "pos"), ("很好", "pos")]
    (row,) = read_quarantine(tmp_path / "out" / "ingest")
    assert str(row.payload["text"]).encode("utf-8", "surrogateescape") == bad
    read(tmp_path, path="pos.txt", label_from="file", encoding="gb18030")
    assert "不好" in {text for text, _ in rows_of(tmp_path)}


def test_a_compression_whose_package_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(fsspec.compression.compr, "zstd", raising=False)  # fsspec enters it where it finds zstandard
    monkeypatch.delitem(fsspec.utils.compressions, "zst", raising=False)
    (tmp_path / "a.csv.zst").write_bytes(b"(\xb5/\xfd")
    with pytest.raises(SourceError, match="zstandard"):
        read(tmp_path, path="a.csv.zst")


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_a_header_in_another_encoding_is_named_in_words_that_can_be_printed(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("评论,标签\n很好,pos\n".encode(encoding))
    with pytest.raises(SourceError) as raised:
        read(tmp_path, path="a.csv", columns={"text": "评论", "label": "标签"})
    assert "gb18030" in raised.value.next_step and "UTF-16" in raised.value.next_step
    str(raised.value).encode()


def test_a_parquet_cell_that_is_not_utf8_is_refused_alone(tmp_path):
    raw = pa.array([b"\xff\xfe", "好".encode()], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": raw, "label": ["pos", "neg"]}), tmp_path / "a.parquet")
    read(tmp_path, path="a.parquet")
    assert rows_of(tmp_path) == [("好", "neg")]
    assert refused(tmp_path) == {"a.parquet:1": "invalid_encoding"}


def test_a_line_of_200_mb_is_never_held_and_the_rest_is_read(tmp_path):
    size = 200_000_000
    with (tmp_path / "pos.txt").open("wb") as file:
        file.write("好\n".encode())
        file.seek(size, io.SEEK_CUR)
        file.write("\n很好\n".encode())
    tracemalloc.start()
    read(tmp_path, path="pos.txt", label_from="file")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 20_000_000
    assert rows_of(tmp_path) == [("好", "pos"), ("很好", "pos")]
    (row,) = read_quarantine(tmp_path / "out" / "ingest")
    assert (row.origin, row.rule, row.payload["num_bytes"]) == ("pos.txt:2", "too_long", size)


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path):
    lines = [f"第{index}行,pos" for index in range(30_000)]
    lines[2] = '"第二行,pos'
    (tmp_path / "a.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    artifact = read(tmp_path, path="a.csv", max_row_bytes=10_000)
    assert refused(tmp_path) == {"a.csv:4": "malformed_csv"}
    assert artifact.counts["rows"] == 29_999


@pytest.mark.parametrize(
    ("files", "source", "says"),
    [
        ({"reviews.csv": b""}, {"path": "review.csv"}, ["does not exist", "reviews.csv"]),
        ({"a/.keep": b""}, {"path": "a"}, ["directory without files"]),
        ({"a.csv": b""}, {"path": "a.csv"}, ["empty", "a.csv"]),
        ({"a.csv": b"text,label\n"}, {"path": "a.csv"}, ["empty"]),
        ({"a.csv": b"texts,label\nx,y\n"}, {"path": "a.csv"}, ["no column `text`", "texts, label", "`texts`"]),
        ({"a.jsonl": b'{"review": 1, "label": 2}\n'}, {"path": "a.jsonl"}, ["no column `text`", "review"]),
        ({"a.parquet": b"PAR1 nonsense"}, {"path": "a.parquet"}, ["not a Parquet file", "a.parquet"]),
        ({"a.csv.gz": b"\x1f\x8b nonsense"}, {"path": "a.csv.gz"}, ["can't be read", "a.csv.gz"]),
        ({"a.xlsx": b"PK"}, {"path": "."}, ["no file here has a format", ".xlsx"]),
        ({"a.jsonl": b"oops\nagain\n"}, {"path": "a.jsonl"}, ["2 of 2", "malformed_json", "a.jsonl:1", "out/ingest"]),
        ({"a.json": b' [\n{"text": "x", "label": "y"}]'}, {"path": "a.json"}, ["a JSON array", "jq -c"]),
        ({"a.csv": b"te\x1b[31mxt,label\nx,y\n"}, {"path": "a.csv"}, [r"te\x1b[31mxt, label"]),
        ({}, {"path": "gopher://x/y"}, ["can't be read", "gopher"]),
    ],
)
def test_a_source_that_can_not_be_used_says_what_where_and_what_next(tmp_path, files, source, says):
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError) as caught:
        read(tmp_path, **source)
    for words in says:
        assert words in str(caught.value)
    assert not (tmp_path / "out" / "raw").exists()


def test_when_every_row_is_bad_all_of_them_are_kept_in_quarantine(tmp_path):
    (tmp_path / "a.jsonl").write_text("oops\nagain\n")
    with pytest.raises(SourceError):
        read(tmp_path, path="a.jsonl")
    assert [row.payload for row in read_quarantine(tmp_path / "out" / "ingest")] == [{"raw": "oops"}, {"raw": "again"}]
    assert read_artifact(tmp_path / "out" / "ingest").counts["malformed_json"] == 2


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"path": "a.txt"}, "label_from"),
        ({"path": "a.txt", "label_from": "file", "encoding": "utf-16"}, "iconv"),
        ({"path": "a.txt", "label_from": "file", "encoding": "utf-88"}, "utf-88"),
        ({"path": "a.txt", "label_from": "file", "columns": {"txt": "a"}}, "did you mean `text`"),
        ({"path": "a.txt", "label_from": "file", "carry": ("id",)}, r"`id` already(.|\n)*my_id: id"),
        ({"path": "a.txt", "label_from": "file", "carry": ("group",)}, "`group` already"),
        ({"path": "a.txt", "label_from": "file", "carry": ("user", "user")}, "`user` already"),
    ],
)
def test_settings_that_no_file_can_meet_are_named(tmp_path, source, says):
    (tmp_path / "a.txt").write_text("x\n")
    with pytest.raises(ConfigError, match=says):
        try:
            read(tmp_path, **source)
        except ConfigError as error:
            raise ConfigError(str(error)) from error


_DIRT = st.one_of(
    st.just(b'{"text": "a", "label": "b"}'),
    st.just("好,pos".encode()),
    st.just(b'"a\nb",neg'),
    st.just(b'{"text": "\\ud800", "label": 1}'),
    st.binary(max_size=12),
    st.text(st.sampled_from('a",\\{}:[]\n\r\t好\x00\x85\u2028 '), max_size=12).map(str.encode),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(_DIRT, max_size=12),
    name=st.sampled_from(["a.csv", "a.jsonl", "a.txt"]),
    max_row_bytes=st.integers(4, 60),
)
def test_every_record_of_a_dirty_file_is_a_row_or_in_quarantine(tmp_path, lines, name, max_row_bytes):
    for old in tmp_path.glob("a.*"):
        old.unlink()
    header = b"text,label\n" if name == "a.csv" else b""
    (tmp_path / name).write_bytes(header + b"\n".join(lines))
    label_from = "file" if name == "a.txt" else "column"
    try:
        artifact = read(tmp_path, path=name, label_from=label_from, max_row_bytes=max_row_bytes + len(header))
    except SourceError:
        return
    assert artifact.ledger is not None
    origins = [row["origin"] for row in read_rows(artifact.path)]
    quarantined = list(refused(tmp_path))
    assert len(origins) + len(quarantined) == artifact.ledger.rows_in
    assert len({*origins, *quarantined}) == artifact.ledger.rows_in
    ids = [row["id"] for row in read_rows(artifact.path)]
    assert len(set(ids)) == len(ids)
