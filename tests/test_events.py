"""What a stage says reaches whoever follows it, whatever is in it."""

import json
from pathlib import Path

import pytest

from noria.events import emit, record


def test_half_characters_of_a_broken_source_do_not_silence_a_stage(tmp_path):
    with record(tmp_path / "events.jsonl"):
        emit("error", message="no column `评论` among \udcc6\udcc0")
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines())
    assert event["message"] == "no column `评论` among ??"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_silences_a_stage_and_does_not_end_it(tmp_path):
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    with record(tmp_path / "events.jsonl"):
        assert not emit("started")
    with record(Path("/dev/full") / "events.jsonl"):
        assert not emit("started")
