"""An artifact is there as a whole, or not at all."""

import json

import pytest

from noria.artifacts import MANIFEST, read_artifact, write_artifact
from noria.errors import ArtifactError


def write(path, text):
    with write_artifact(path, kind="raw") as draft:
        (draft.path / "rows").write_text(text)


def test_a_writer_that_fails_leaves_what_was_there(tmp_path):
    write(tmp_path / "raw", "old")
    with pytest.raises(ValueError, match="no"), write_artifact(tmp_path / "raw", kind="raw") as draft:
        (draft.path / "rows").write_text("new")
        raise ValueError("no")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    assert (read_artifact(tmp_path / "raw").path / "rows").read_text() == "old"


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    for name in (".raw-abcd1234", ".raw", ".cleaned-abcd1234"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows").write_text("half")
    write(tmp_path / "raw", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cleaned-abcd1234", ".raw", "raw"]


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"files": 5}', "3"])
def test_a_manifest_of_something_else_is_refused(tmp_path, manifest):
    write(tmp_path / "raw", "rows")
    (tmp_path / "raw" / MANIFEST).write_text(manifest)
    with pytest.raises(ArtifactError, match="not one of Noria's"):
        read_artifact(tmp_path / "raw")


def test_a_digest_that_is_not_that_of_the_files_is_refused(tmp_path):
    write(tmp_path / "raw", "rows")
    path = tmp_path / "raw" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": "0" * 64}))
    with pytest.raises(ArtifactError, match="digest is not that of its files"):
        read_artifact(tmp_path / "raw")
