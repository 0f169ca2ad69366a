"""Keeping a record of a run: when it began and how it ended, its report, and what the Prefect UI shows of both."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from noria.report.links import REPORTS_URL, link_to
from noria.traces import span
from noria.workspace import Workspace
from tasks.notify import lasting_url
from tasks.report import run_table, write_run_report
from tasks.runs import Run, alive, read_runs, remember_run

logger = logging.getLogger(__name__)


@contextmanager
def recorded(workspace: Workspace) -> Iterator[None]:
    """Record the run of this flow, and write its report when the block ends, however it ends."""
    run = Run(flow_run.id or "", flow_run.flow_name or "", _now(), url=lasting_url(flow_run.id))
    with alive(workspace, run.run):
        remember_run(workspace, run)
        with _told(workspace, run):
            yield


@contextmanager
def _told(workspace: Workspace, run: Run) -> Iterator[None]:
    """However it ends."""
    try:
        with span(run.flow, attributes={"noria.model": workspace.config.name, "noria.run": run.run}):
            yield
    except Exception as error:
        _close(workspace, replace(run, state="failed", error=str(error)))
        raise
    except BaseException:  # interrupted, cancelled, terminated
        _close(workspace, replace(run, state="cancelled"))
        raise
    _close(workspace, replace(run, state="completed"))


@contextmanager
def waiting(workspace: Workspace) -> Iterator[None]:
    """Say that the run of this flow waits for a person, and holds nothing meanwhile."""
    (run,) = (run for run in read_runs(workspace) if run.run == flow_run.id)
    remember_run(workspace, replace(run, state="waiting"))
    try:
        yield
    finally:  # also when nobody answered in time
        remember_run(workspace, replace(run, state="running"))


def show_page(workspace: Workspace, page: Path, *, key: str, description: str) -> None:
    """Link a page from the run, or say where it lies: from a page over HTTP no browser follows `file://`."""
    if link := link_to(workspace, page):
        create_link_artifact(link, link_text=page.name, key=key, description=description)
    else:
        told = f"`{page}`\n\nWhere `{REPORTS_URL}` names the address of `noria reports`, this is a link."
        create_markdown_artifact(told, key=key, description=description)


def _close(workspace: Workspace, run: Run) -> None:
    ended = replace(run, ended=_now())
    remember_run(workspace, ended)
    try:
        path = write_run_report(workspace, ended)
        create_markdown_artifact(run_table(workspace, ended), key="run", description="what ran, and how long it took")
        show_page(workspace, path, key="report", description="the report of this run")
    except Exception:  # a page about a run takes nothing from it
        logger.exception("the report of this run can't be written")
        return
    logging.getLogger("noria.flow").info("report in %s", path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
