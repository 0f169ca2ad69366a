"""Links in a source: what is behind them is read once, or refused; never lost without a word."""

import os

import pytest

from noria.config import SourceConfig
from noria.data.sources import find_files
from noria.errors import SourceError


@pytest.fixture
def source(tmp_path):
    """A source with `b.csv`; beside it a file and a folder that links can lead to."""
    for name in ("in", "folder"):
        (tmp_path / name).mkdir()
    for name in ("in/b.csv", "folder/c.csv", "file.csv"):
        (tmp_path / name).write_text("text,label\n")
    return tmp_path / "in"


def names(source, **settings):
    return [file.name for file in find_files(SourceConfig(path="in", **settings), base=str(source.parent))]


def test_a_link_to_a_file_is_the_file(source):
    (source / "a.csv").symlink_to(source.parent / "file.csv")
    assert names(source) == ["a.csv", "b.csv"]


def test_a_file_is_read_once_whatever_leads_to_it(source):
    (source / "latest.csv").symlink_to(source / "b.csv")
    for name in ("x.csv", "y.csv"):
        (source / name).symlink_to(source.parent / "file.csv")
    assert names(source) == ["b.csv", "x.csv"]


def test_a_link_to_a_folder_is_refused_since_its_rows_would_be_lost(source):
    (source / "more").symlink_to(source.parent / "folder")
    with pytest.raises(SourceError, match="leads to a folder") as error:
        names(source)
    assert f"{source / 'more'} -> " in str(error.value)


@pytest.mark.parametrize("glob", ["more", "more/*", "m*"])
def test_a_glob_leaves_out_a_link_to_a_folder_where_globs_say_what_documents_are(source, glob):
    (source / "more").symlink_to(source.parent / "folder")
    assert names(source, format="documents", documents={"exclude": [glob]}) == ["b.csv"]
    with pytest.raises(SourceError, match="leads to a folder"):
        names(source, documents={"exclude": [glob]})


def test_links_to_nothing_to_themselves_to_pipes_and_to_devices_are_left_out(source):
    os.mkfifo(source.parent / "pipe")
    for name, target in (("1.csv", "nothing"), ("2.csv", "2.csv"), ("3.csv", "../pipe"), ("4.csv", "/dev/zero")):
        (source / name).symlink_to(target)
    assert names(source) == ["b.csv"]


def test_a_hidden_link_is_left_out_and_a_source_may_be_a_link(source):
    (source / ".more").symlink_to(source.parent / "folder")
    (source.parent / "real").mkdir()
    source.rename(source.parent / "real" / "data")
    source.symlink_to(source.parent / "real" / "data")
    assert names(source) == ["b.csv"]
