"""The search for hyperparameters: one task a trial, then the report."""

from __future__ import annotations

import argparse

from prefect import allow_failure, flow
from prefect.futures import PrefectFuture, as_completed

from noria.tuning.report import Summary
from noria.tuning.search import Limits, begin_search
from noria.tuning.worker import Ended
from noria.workspace import Workspace
from tasks.notify import tell_failure
from tasks.search import publish, run_trial


@flow(name="tune", persist_result=False, on_failure=[tell_failure], on_crashed=[tell_failure])
def tune(
    directory: str = ".",
    trials: int | None = None,
    minutes: float | None = None,
    parallel: int | None = None,
    wait_s: float = 3600.0,
) -> Summary:
    """From the current parameters to better ones, as a diff to review.

    Parameters
    ----------
    directory:
        The workspace.
    trials, minutes, parallel:
        In place of what `params.yaml` says under `tune`.
    wait_s:
        How long to wait for a run in the workspace.
    """
    workspace = Workspace.at(directory)
    limits = Limits.of(workspace.config.tune, trials=trials, minutes=minutes, parallel=parallel)
    with begin_search(workspace, limits, wait_s=wait_s) as search:
        running: list[PrefectFuture[Ended]] = []
        done: list[PrefectFuture[Ended]] = []
        while True:
            while len(running) < limits.parallel and (job := search.ask()) is not None:
                running.append(run_trial.with_options(task_run_name=job.title).submit(search, job))
            if not running:
                break
            done.append(next(as_completed(running)))
            running.remove(done[-1])
        return publish(search, workspace, wait_for=[allow_failure(trial) for trial in done])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    tune(parser.parse_args().directory)
