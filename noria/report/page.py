"""The page of a run: sections in the order of the flowchart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from noria.report.data import ledger_section, quality_sections, quarantine_section
from noria.report.html import render, write_page
from noria.report.lineage import environment_section, lineage_section
from noria.report.model import evaluation_section, optimization_section, training_section, verdict_section
from noria.report.operations import arrivals_section, decision_section, drift_section, feedback_section
from noria.report.parts import Section
from noria.report.run import ReportedRun, what_ran
from noria.workspace import Workspace

_KEPT = 20
"""Pages of earlier runs."""


def write_report(workspace: Workspace, run: ReportedRun) -> Path:
    """Write the page of a run, in place of `index.html` and under the run's own name; returns the latter."""
    directory = workspace.run_reports
    page = run_page(workspace, run)
    path = write_page(directory / f"{run.started:%Y%m%dT%H%M%SZ}-{run.run[:8] or 'run'}.html", page)
    write_page(directory / "index.html", page)
    for old in sorted(directory.glob("2*.html"))[:-_KEPT]:
        old.unlink()
    return path


def run_page(workspace: Workspace, run: ReportedRun) -> str:
    """The page as HTML."""
    return render(
        "run.html",
        run=run,
        name=workspace.config.name,
        scenario=workspace.scenario.name,
        place=str(workspace.root),
        sections=list(_sections(workspace, run)),
        reached={step.stage for step in run.steps},
    )


def _sections(workspace: Workspace, run: ReportedRun) -> Iterator[Section]:
    """Those of which there is something to tell."""
    found = (
        what_ran(run),
        arrivals_section(workspace),
        drift_section(workspace),
        feedback_section(workspace),
        decision_section(workspace),
        verdict_section(workspace),
        ledger_section(workspace),
        *quality_sections(workspace),
        quarantine_section(workspace),
        training_section(workspace),
        evaluation_section(workspace),
        optimization_section(workspace),
        lineage_section(workspace),
        environment_section(workspace),
    )
    yield from (section for section in found if section is not None)
