"""Searches with real trainings: killed, they go on; what is bad ends early; what fails is kept as that."""

import argparse
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tuned
from tuned import make_workspace, search

from noria.cli.tune import _end
from noria.errors import ArtifactError, ConfigError, StageFailed, WorkspaceBusy
from noria.evaluation.inference import num_cores
from noria.lease import hold, holder
from noria.tuning.report import summarize, trials_table, verdict, write_report
from noria.tuning.search import Limits, TrialRecord, begin_search
from noria.tuning.worker import Ended, TrialFiles, run_worker, unheard_s
from noria.workspace import Workspace

TRIALS = 3
TWO_RATES = {"pruner": "median", "space": {"train.lr": [0.0007, 1.0e-7]}}


def timeless(records: tuple[TrialRecord, ...]) -> list[TrialRecord]:
    return [replace(record, seconds=0.0) for record in records]


def files_of(workspace: Workspace, number: int) -> TrialFiles:
    (directory,) = workspace.tuning.glob(f"*/trial-{number:04d}")
    return TrialFiles(directory)


def runs(files: TrialFiles) -> bool:
    with files.lock.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_for(condition) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> Iterator[tuple[Workspace, tuple[TrialRecord, ...]]]:
    workspace = make_workspace(tmp_path_factory.mktemp("searched") / "ws")
    yield workspace, search(workspace, trials=TRIALS)


@pytest.mark.slow
def test_a_search_begins_with_the_current_parameters_and_keeps_losses_but_no_models(searched):
    workspace, records = searched
    assert [record.number for record in records] == [*range(TRIALS)]
    assert records[0].values == {"train.lr": 0.0007, "train.optimizer": "muon", "model.layers": 1}
    assert all(record.state == "complete" and record.loss is not None and record.epochs for record in records)
    assert all(record.metrics["final_loss"] == record.loss for record in records)
    assert not list(workspace.tuning.glob("*/trial-*/checkpoint")) + list(workspace.tuning.glob("*/trial-*/scratch"))
    assert not list(workspace.tuning.glob("*/splits"))


@pytest.mark.slow
def test_called_again_a_finished_search_runs_nothing(searched):
    workspace, records = searched
    written = files_of(workspace, 1).events.stat().st_mtime_ns
    assert search(workspace, trials=TRIALS) == records
    assert files_of(workspace, 1).events.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("orphan", [True, False], ids=["the training lives on", "the training dies too"])
def test_killed_and_started_again_it_ends_as_if_it_had_not_been(searched, tmp_path, orphan):
    workspace = make_workspace(tmp_path / "ws")
    command = [sys.executable, str(Path(tuned.__file__)), str(workspace.root), str(TRIALS)]
    paths = {"PYTHONPATH": str(Path(tuned.__file__).parents[1])}  # tests/benchmarks is not what it imports
    with subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, **paths}) as process:
        wait_for(lambda: list(workspace.tuning.glob("*/trial-0001/scratch/state/*")) or process.poll() is not None)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    files = files_of(workspace, 1)
    if not orphan:
        os.killpg(int(files.lock.read_text()), signal.SIGKILL)
        wait_for(lambda: not runs(files))
    assert timeless(search(workspace, trials=TRIALS)) == timeless(searched[1])
    assert not runs(files)


@pytest.mark.slow
def test_a_hopeless_trial_is_ended_early_and_nothing_of_it_runs_on(tmp_path):
    workspace = make_workspace(
        tmp_path / "ws", tune=TWO_RATES, epochs=150, schedule="constant", checkpoint_every_s=60, pretrain={"epochs": 0}
    )
    first, second = search(workspace, trials=9)  # the space holds no more than two
    assert (first.state, second.state) == ("complete", "pruned")
    assert second.loss is None and len(second.epochs) < len(first.epochs)
    files = files_of(workspace, second.number)
    assert not runs(files) and not files.scratch.exists()


@pytest.mark.slow
def test_a_trial_that_dies_is_kept_as_failed_and_the_current_parameters_stay(tmp_path):
    workspace = make_workspace(tmp_path / "ws", tune=TWO_RATES)
    with begin_search(workspace, Limits(trials=9, minutes=0, parallel=1), wait_s=1) as found:
        found.run(found.ask())
        job = found.ask()
        thread = threading.Thread(target=found.run, args=(job,))
        thread.start()
        wait_for(lambda: job.files.lock.exists() and job.files.lock.read_text() and job.files.events.exists())
        os.killpg(int(job.files.lock.read_text()), signal.SIGKILL)
        thread.join()
        assert found.ask() is None
        summary = summarize(found, workspace)
    assert summary.trials[1].state == "failed" and "SIGKILL" in summary.trials[1].error
    assert summary.diff == "" and "keep them" in verdict(summary)


def losses(monkeypatch, *told: float) -> None:
    """Trainings that end at once, with these losses in turn."""
    ends = iter(told)
    monkeypatch.setattr(
        "noria.tuning.search.run_worker", lambda *args, **kwargs: Ended("complete", {"final_loss": next(ends)})
    )


@pytest.mark.parametrize("later", [None, "name: [", "train: &t {lr: 0.0007}\n"], ids=["gone", "no YAML", "other"])
def test_a_diff_that_can_not_be_made_costs_no_report(tmp_path, monkeypatch, capsys, later):
    workspace = make_workspace(tmp_path / "ws", tune=TWO_RATES)
    losses(monkeypatch, 0.9, 0.5)
    with begin_search(workspace, Limits(trials=2, minutes=0, parallel=1), wait_s=1) as found:
        while (job := found.ask()) is not None:
            found.run(job)
        workspace.params.unlink() if later is None else workspace.params.write_text(later)
        summary = summarize(found, workspace)
    write_report(summary, tmp_path / "report")
    assert {"tuning.md", "tuning.json", "history.png"} <= {path.name for path in (tmp_path / "report").iterdir()}
    assert summary.diff == "" and "lowers the hold-out loss" in verdict(summary)
    assert "set by hand: train.lr: 1.0e-07" in (tmp_path / "report" / "tuning.md").read_text()
    for apply, code in ((False, 0), (True, ConfigError.exit_code)):
        assert _end(summary, workspace.params, argparse.Namespace(apply=apply, json=False)) == code
        assert "set by hand" in capsys.readouterr().out


def unheard(files: TrialFiles, *, epochs: list[float], final: float | None = None) -> None:
    """What a training wrote while no search listened: an epoch every 30 s, and an end."""
    events = [{"kind": "started"}]
    events += [{"kind": "metric", "step": 10 * n, "values": {"holdout_loss": loss}} for n, loss in enumerate(epochs, 1)]
    events += [] if final is None else [{"kind": "metric", "step": 99, "values": {"final_loss": final}}]
    lines = [json.dumps({"time": 1e9 + 30 * n, **event}) + "\n" for n, event in enumerate(events)]
    files.events.write_text("".join(lines))


def test_a_training_that_ended_unheard_keeps_its_epochs_and_its_time(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    with begin_search(workspace, Limits(trials=1, minutes=0, parallel=1), wait_s=1) as found:
        job = found.ask()
        unheard(job.files, epochs=[0.9, 0.8], final=0.7)
        found.run(job)
        (record,) = found.records()
    assert (record.state, record.loss, record.epochs) == ("complete", 0.7, (0.9, 0.8))
    assert 90 <= record.seconds < 95


def test_what_was_heard_already_is_not_counted_twice(tmp_path):
    files = TrialFiles(tmp_path)
    assert unheard_s(files, since=0.0) == 0.0
    unheard(files, epochs=[0.9, 0.8])
    assert unheard_s(files, since=0.0) == 60.0
    assert unheard_s(files, since=1e9 + 45) == 15.0
    assert unheard_s(files, since=2e9) == 0.0


def test_a_hopeless_training_that_nobody_heard_is_not_gone_on_with(tmp_path):
    files = TrialFiles(tmp_path)
    unheard(files, epochs=[0.9, 0.8])
    heard = []
    ended = run_worker(files, on_epoch=lambda *epoch: bool(heard.append(epoch)), stopping=lambda: False)
    assert ended.state == "pruned" and heard == [(10, 0.9), (20, 0.8)] and not files.lock.exists()


def test_a_loss_that_is_no_number_is_a_failure_with_its_reason(tmp_path):
    workspace = make_workspace(tmp_path / "ws", tune=TWO_RATES)
    with begin_search(workspace, Limits(trials=2, minutes=0, parallel=1), wait_s=1) as found:
        for loss in (0.7, math.nan):
            job = found.ask()
            unheard(job.files, epochs=[], final=loss)
            found.run(job)
        assert [record.state for record in found.records()] == ["complete", "failed"]
        assert "its loss is nan" in trials_table(found.records())


def test_a_search_whose_first_loss_is_no_number_ends_and_says_so(tmp_path):
    workspace = make_workspace(tmp_path / "ws", tune=TWO_RATES)
    for _ in range(2):  # also when it is called again
        with (
            pytest.raises(StageFailed, match="current parameters failed: its loss is nan"),
            begin_search(workspace, Limits(trials=2, minutes=0, parallel=1), wait_s=1) as found,
        ):
            job = found.ask()
            unheard(job.files, epochs=[], final=math.nan)
            found.run(job)
            assert found.ask() is None


@pytest.mark.slow
def test_a_search_that_is_stopped_saves_its_training_and_goes_on_with_it(searched, tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    with begin_search(workspace, Limits(trials=TRIALS, minutes=0, parallel=1), wait_s=1) as found:
        job = found.ask()
        thread = threading.Thread(target=found.run, args=(job,))
        thread.start()
        wait_for(lambda: list(job.files.root.glob("scratch/state/*")))
        found.stop()
        thread.join()
        assert found.ask() is None and [record.state for record in found.records()] == ["running"]
    assert not runs(job.files)
    assert timeless(search(workspace, trials=TRIALS)) == timeless(searched[1])


def test_a_trial_that_can_not_be_run_ends_the_search_instead_of_coming_again_for_ever(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    limits = Limits(trials=2, minutes=0, parallel=1)
    with (
        pytest.raises(StageFailed, match=r"trial 0(.|\n)*IsADirectoryError"),
        begin_search(workspace, limits, wait_s=1) as found,
    ):
        job = found.ask()
        job.files.lock.mkdir()
        with pytest.raises(IsADirectoryError):
            found.run(job)
        assert found.ask() is None


def test_a_trial_that_was_begun_keeps_its_threads_however_many_run_at_once_later(tmp_path):
    workspace = make_workspace(tmp_path / "ws", threads=0)

    def threads_of_the_first(parallel: int) -> int:
        with begin_search(workspace, Limits(trials=2, minutes=0, parallel=parallel), wait_s=1) as found:
            return json.loads(found.ask().files.job.read_text())["config"]["train"]["threads"]

    begun = threads_of_the_first(2)
    assert begun == max(1, num_cores() // 2)
    assert threads_of_the_first(1) == begun


def test_ending_the_search_costs_a_trial_none_of_its_attempts(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    for _ in range(2):
        with begin_search(workspace, Limits(trials=2, minutes=0, parallel=1), wait_s=1) as found:
            job = found.ask()
            thread = threading.Thread(target=found.run, args=(job,))
            thread.start()
            wait_for(lambda files=job.files: files.lock.exists() and files.lock.read_text())
            found.stop()
            thread.join()
            assert [record.state for record in found.records()] == ["running"]
    journal = (job.files.root.parent / "journal.log").read_text()
    assert "seconds" in journal and "attempts" not in journal


def test_a_run_may_hold_the_workspace_during_a_search_but_no_second_search_begins(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    limits = Limits(trials=1, minutes=1e-6, parallel=1)
    with begin_search(workspace, limits, wait_s=1) as found:
        assert holder(workspace) is None
        with hold(workspace, wait_s=0):
            assert found.ask() is None  # its time is over
        with pytest.raises(WorkspaceBusy, match="another search"), begin_search(workspace, limits, wait_s=1):
            pass
        assert "nothing to compare" in verdict(summarize(found, workspace))


def test_without_splits_it_says_what_makes_them(tmp_path):
    workspace = make_workspace(tmp_path / "ws")
    (workspace.splits / "manifest.json").unlink()
    with (
        pytest.raises(ArtifactError, match="noria run"),
        begin_search(workspace, Limits(trials=1, minutes=0, parallel=1), wait_s=1),
    ):
        pass
