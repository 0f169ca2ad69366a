"""What runs leave behind for `noria plan` and `noria status`."""

import errno

import pytest
from dvc.exceptions import ReproductionError
from dvc.stage.exceptions import StageCmdFailedError
from prefect.states import Failed

from noria.errors import DiskFull, Preempted, StoreError, TrainingError
from noria.workspace import Workspace
from tasks.follow import Heard
from tasks.history import Attempt, read_history, remember
from tasks.ingest import ingest
from tasks.prefect_task import _failure, may_help

FIRST = Attempt(run="a", stage="ingest", state="ran", seconds=1.5, own_s=1.0, ended="2026-01-01T00:00:00+00:00")


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / ".noria").mkdir()
    return Workspace.at(tmp_path)


def test_what_is_remembered_is_read_in_order(workspace):
    second = Attempt(**{**vars(FIRST), "stage": "split", "state": "failed"})
    remember(workspace, FIRST)
    remember(workspace, second)
    assert list(read_history(workspace)) == [FIRST, second]


def test_a_line_that_a_full_disk_cut_short_is_left_out(workspace):
    remember(workspace, FIRST)
    workspace.history.write_text(workspace.history.read_text() + '{"run": "b", "sta')
    assert list(read_history(workspace)) == [FIRST]


def test_a_history_that_can_not_be_written_does_not_hide_what_went_wrong(tmp_path, caplog):
    remember(Workspace.at(tmp_path), FIRST)  # there is no .noria
    assert "can't be written" in caplog.text


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.ENOSPC, "No space left on device", "cache/ab"),  # DVC's own
        StageCmdFailedError("python -m tasks.ingest", DiskFull.exit_code),  # the stage's, who could not even say so
    ],
)
def test_a_disk_that_fills_up_is_named_whoever_finds_it_full(workspace, cause):
    error = ReproductionError("failed to reproduce 'ingest'")
    error.__cause__ = cause
    failure = _failure(ingest, workspace, Heard(), cause=error)
    assert isinstance(failure, DiskFull)
    assert "MB free" in str(failure)


@pytest.mark.parametrize(
    ("heard", "again"),
    [
        (Heard(error="too few rows", exit_code=TrainingError.exit_code), False),
        (Heard(error="no answer", exit_code=StoreError.exit_code), True),
        (Heard(error="told to end; the state is saved", exit_code=Preempted.exit_code), True),
        (Heard(last_lines=["epoch 1"]), True),  # it was killed
    ],
)
def test_only_what_may_end_otherwise_is_tried_again(workspace, heard, again):
    error = ReproductionError("failed to reproduce 'ingest'")
    error.__cause__ = StageCmdFailedError("python -m tasks.ingest", heard.exit_code)
    failure = _failure(ingest, workspace, heard, cause=error)
    assert may_help(None, None, Failed(data=failure)) is again
