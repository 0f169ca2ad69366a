"""Where the pages of a workspace are found over HTTP: `noria reports` shows them, and links lead there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from noria.workspace import Workspace

REPORTS_URL = "NORIA_REPORTS_URL"
"""Of the environment: the address at which browsers find `noria reports`, as they see it."""


def shown(workspace: Workspace) -> Mapping[str, Path]:
    """The directories whose files are shown, by the names that they have in addresses."""
    return {"run": workspace.run_reports, "tuning": workspace.tuning_report}


def place_of(workspace: Workspace, page: Path) -> str:
    """The path of a page, as seen from the address of `noria reports`: a proxy may have put that below another."""
    (name,) = (name for name, directory in shown(workspace).items() if directory == page.parent)
    return f"{workspace.config.name}/{name}/{page.name}"


def link_to(workspace: Workspace, page: Path) -> str | None:
    """The address of a page; None where nobody has said that pages are shown."""
    url = os.environ.get(REPORTS_URL, "").rstrip("/")
    return f"{url}/{place_of(workspace, page)}" if url else None
