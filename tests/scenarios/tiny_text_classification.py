"""Reviews whose words tell the label, and what the gate refuses among them."""

from collections.abc import Mapping
from pathlib import Path

import workspaces

SETTINGS: Mapping[str, Mapping[str, object]] = workspaces.TINY


def write_source(path: Path, *, dirty: bool) -> Path:
    """A source below `path`; a dirty one fails the gate, and passes it once it is cleaned."""
    return workspaces.write_rows(path / "rows.csv", workspaces.dirty_rows(600) if dirty else workspaces.good_rows(300))
