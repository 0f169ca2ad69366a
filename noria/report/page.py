"""The page itself: sections in the order of the flowchart, in one file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from noria.report.data import ledger_section, quality_sections, quarantine_section
from noria.report.lineage import environment_section, lineage_section
from noria.report.model import evaluation_section, optimization_section, training_section, verdict_section
from noria.report.operations import arrivals_section, decision_section, drift_section, feedback_section
from noria.report.parts import Bar, Drawing, Picture, Section, Span, Table
from noria.report.run import ReportedRun, what_ran
from noria.workspace import Workspace

_HERE = Path(__file__).parent
_KEPT = 20
"""Pages of earlier runs."""


def write_report(workspace: Workspace, run: ReportedRun) -> Path:
    """Write the page of a run, in place of `index.html` and under the run's own name; returns the latter."""
    directory = workspace.run_reports
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{run.started:%Y%m%dT%H%M%SZ}-{run.run[:8] or 'run'}.html"
    content = render(workspace, run).encode("utf-8", "replace")  # a lone surrogate of a source's broken bytes
    for target in (path, directory / "index.html"):
        draft = target.with_suffix(".part")
        draft.write_bytes(content)
        draft.replace(target)
    for old in sorted(directory.glob("2*.html"))[:-_KEPT]:
        old.unlink()
    return path


def render(workspace: Workspace, run: ReportedRun) -> str:
    """The page as HTML."""
    return _template().render(
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


@cache
def _template() -> Template:
    """Everything that is put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader([_HERE, _HERE.parent / "serving" / "static"]),  # the colours of the server's page
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_url"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    environment.filters["words"] = _words
    kinds = {"table": Table, "picture": Picture, "drawing": Drawing, "bar": Bar, "span": Span}
    environment.tests |= {name: lambda value, kind=kind: isinstance(value, kind) for name, kind in kinds.items()}
    return environment.get_template("page.html")


def _words(text: str) -> Markup:
    """A sentence; what stands in backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
