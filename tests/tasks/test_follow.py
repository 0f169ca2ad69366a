"""Following a stage: what it said is heard, also when nobody can be shown it."""

import logging

import pytest

from noria.events import Progress, emit, record
from tasks import follow as following


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_fails_costs_the_picture_and_not_the_reason(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no server")

    monkeypatch.setattr(following, "create_progress_artifact", refuse)
    events = tmp_path / "events" / "ingest.jsonl"
    with following.follow(events, key="ingest", logger=logging.getLogger("test")) as heard, record(events):
        emit("started", stage="ingest", pid=1)
        Progress("ingest", 1, "files").close()
        emit("error", message="the source is empty", exit_code=3)
    assert (heard.ran, heard.error, heard.exit_code) == (True, "the source is empty", 3)
