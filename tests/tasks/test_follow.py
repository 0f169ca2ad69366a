"""Following a stage: what it said is heard, also when nobody can be shown it."""

import logging
import time

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


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_events_that_are_removed_for_a_new_start_are_waited_for(tmp_path):
    events = tmp_path / "trial.jsonl"
    with record(events):
        emit("started", stage="trial", pid=1)
    with following.follow(events, key="trial", logger=logging.getLogger("test")) as heard:
        events.unlink()
        time.sleep(3 * following._POLL_S)
        with record(events):
            emit("error", message="heard all the same", exit_code=3)
    assert heard.error == "heard all the same"
