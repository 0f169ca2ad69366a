"""An object is what rows are read from, with what they can't be read without; its tag changes when either does."""

from __future__ import annotations

import gzip
import json

import hours
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_http_source import CSV, Server, servers  # noqa: F401  a fixture

from noria.config import SourceConfig
from noria.data.intake import Refused, make_intake, read_refused, write_refused
from noria.data.source_objects import find_objects, left_out, read_objects
from noria.errors import ConfigError
from noria.scenarios import load_scenario
from tasks.ingest import ingest

TEXT = load_scenario("text-classification").schema
IMAGES = load_scenario("image-classification").schema
PAIRS = load_scenario("translation").schema


def tags(base, *, schema=TEXT, remembered=None, **source):
    found = find_objects(SourceConfig(**source), schema=schema, base=base, remembered=remembered)
    return {each.name: each.tag for each in found}


def write(base, files):
    for name, data in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(data)


def parquet(text):
    table = pa.table({"text": [text], "label": ["pos"]})
    out = pa.BufferOutputStream()
    pq.write_table(table, out)
    return out.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("source", "schema", "files", "touched", "changed"),
    [
        ({"path": "s/rows.csv"}, TEXT, {"s/rows.csv": b"a", "s/other.csv": b"b"}, "s/rows.csv", {"rows.csv"}),
        ({"path": "s/rows.csv"}, TEXT, {"s/rows.csv": b"a", "s/other.csv": b"b"}, "s/other.csv", set()),
        ({"path": "s"}, TEXT, {"s/a/1.pq": parquet("x"), "s/b/2.pq": parquet("y")}, "s/b/2.pq", {"b/2.pq"}),
        ({"path": "s"}, TEXT, {"s/1.json.gz": gzip.compress(b"{}"), "s/_SUCCESS": b""}, "s/1.json.gz", {"1.json.gz"}),
        (
            {"path": "s", "languages": {"source": "en", "target": "de"}},
            PAIRS,
            {"s/a.en": b"Save\n", "s/a.de": b"Speichern\n", "s/b.en": b"Open\n", "s/b.de": b"Auf\n"},
            "s/a.de",
            {"a.en"},
        ),
        (
            {"path": "s"},
            IMAGES,
            {"s/train-images-idx3-ubyte": b"1", "s/train-labels-idx1-ubyte": b"2", "s/t10k-images-idx3-ubyte": b"3"},
            "s/train-labels-idx1-ubyte",
            {"train-images-idx3-ubyte"},
        ),
        (
            {"path": "s"},
            IMAGES,
            {"s/rows.csv": b"image,label\nm/1.png,a\n", "s/m/1.png": b"1", "s/m/notes.md": b"2"},
            "s/m/1.png",
            {"rows.csv"},
        ),
        (
            {"path": "s", "format": "media", "label_from": "directory"},
            IMAGES,
            {"s/cat/1.png": b"1", "s/dog/2.png": b"2"},
            "s/dog/2.png",
            {"dog/2.png"},
        ),
    ],
)  # fmt: skip
def test_what_changes_an_object(tmp_path, source, schema, files, touched, changed):
    write(tmp_path, files)
    remembered = tmp_path / "tags.json"
    before = tags(tmp_path, schema=schema, remembered=remembered, **source)
    assert before == tags(tmp_path, schema=schema, remembered=remembered, **source)
    (tmp_path / touched).write_bytes(b"other")
    after = tags(tmp_path, schema=schema, remembered=remembered, **source)
    assert {name for name in after if after[name] != before[name]} == changed
    assert after == tags(tmp_path, schema=schema, **source)


def test_a_file_that_did_not_change_is_not_read_again(tmp_path):
    write(tmp_path, {"s/a.csv": b"a", "s/b.csv": b"b"})
    before = tags(tmp_path, remembered=tmp_path / "tags.json", path="s")
    known = json.loads((tmp_path / "tags.json").read_text())
    known[str(tmp_path / "s" / "a.csv")][3] = "of the memory"
    (tmp_path / "tags.json").write_text(json.dumps(known))
    (tmp_path / "s" / "b.csv").write_bytes(b"c")
    after = tags(tmp_path, remembered=tmp_path / "tags.json", path="s")
    assert after["a.csv"] == "of the memory"
    assert after["b.csv"] != before["b.csv"]


def test_a_file_behind_a_url_has_the_tag_of_its_host(tmp_path, servers: tuple[Server, Server]):  # noqa: F811
    server, _ = servers
    server.files["/rows.csv"] = CSV
    source = {"path": f"http://{server.host}/rows.csv", "hosts": (server.host,)}
    assert tags(tmp_path, **source) == {"rows.csv": "1"}
    server.tag = "2"
    assert tags(tmp_path, **source) == {"rows.csv": "2"}
    server.tag = ""  # a host that says nothing: by the bytes
    first = tags(tmp_path, **source)
    server.files["/rows.csv"] = CSV + b"x,pos\n"
    assert tags(tmp_path, **source) != first != {"rows.csv": "2"}


def test_the_data_says_which_objects_it_was_read_from_and_how_many_rows_each_had(tmp_path):
    workspace = hours.make(tmp_path / "ws", "sources/hours")
    write(workspace.root / "sources" / "hours", {"00.csv": hours.hour(0, 20), "01.csv": hours.hour(1, 4)})
    ingest.fn(workspace)
    listed = json.loads((workspace.raw / "objects.json").read_text())
    assert [(each["name"], each["rows"]) for each in listed] == [("00.csv", 20), ("01.csv", 4)]
    assert [each["size"] for each in listed] == [len(hours.hour(0, 20)), len(hours.hour(1, 4))]
    assert read_objects(workspace.raw) == tags(workspace.root, path="sources/hours")


def test_an_object_is_left_out_in_the_state_that_was_refused_and_in_no_other(tmp_path):
    write(tmp_path, {"s/a.csv": b"a", "s/b.csv": b"b"})
    make_intake(tmp_path)
    found = tags(tmp_path, path="s")
    refused = [Refused("a.csv", found["a.csv"], "2026-11-27T10:00:00+00:00", 'it\'s "bad": 很差, #1')]
    write_refused(tmp_path, refused)
    assert read_refused(tmp_path) == refused
    objects = find_objects(SourceConfig(path="s"), schema=TEXT, base=tmp_path)
    assert [each.name for each in left_out(objects, base=tmp_path)] == ["a.csv"]
    (tmp_path / "s" / "a.csv").write_bytes(b"mended")
    objects = find_objects(SourceConfig(path="s"), schema=TEXT, base=tmp_path)
    assert left_out(objects, base=tmp_path) == []


def test_a_list_of_refused_objects_that_was_damaged_says_what_to_do(tmp_path):
    make_intake(tmp_path)
    path = tmp_path / "sources" / "intake" / "refused.yaml"
    path.write_text(path.read_text() + "- {object: a.csv}\n")
    with pytest.raises(ConfigError, match="no list of refused objects") as caught:
        read_refused(tmp_path)
    assert "delete it" in str(caught.value)


def test_digests_that_were_cut_short_are_computed_again(tmp_path):
    write(tmp_path, {"s/rows.csv": b"a"})
    (tmp_path / "tags.json").write_text('{"')
    assert tags(tmp_path, path="s", remembered=tmp_path / "tags.json") == tags(tmp_path, path="s")
    assert json.loads((tmp_path / "tags.json").read_text())
