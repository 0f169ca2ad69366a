"""The page of a search for hyperparameters: the verdict, the proposed diff, the trials and their pictures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from noria.report.html import render, write_page
from noria.report.parts import Code, Section, pictures, tables_of_markdown
from noria.tuning.report import JUDGED_BY, Summary, trials_table, verdict
from noria.workspace import Workspace


def write_search_page(summary: Summary, workspace: Workspace) -> Path:
    """Write the page beside the report of the search, whose pictures it carries; returns its path."""
    page = render(
        "search.html",
        search=summary.study,
        now=datetime.now(UTC),
        name=workspace.config.name,
        scenario=workspace.scenario.name,
        place=str(workspace.root),
        sections=list(_sections(summary, workspace.tuning_report)),
    )
    return write_page(workspace.tuning_report / "index.html", page)


def _sections(summary: Summary, directory: Path) -> Iterator[Section]:
    proposed = tuple(Code(text) for text in (summary.diff, summary.refused) if text)
    yield Section("Verdict", verdict(summary), (JUDGED_BY, *proposed))
    done = sum(trial.state == "complete" for trial in summary.trials)
    tables = tables_of_markdown(trials_table(summary.trials))
    yield Section("Trials", f"{len(summary.trials)} trials, {done} of them complete.", tuple(tables))
    if drawn := pictures(directory):
        yield Section("Pictures", parts=tuple(drawn))
