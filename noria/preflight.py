"""What must hold before a run starts: better a clear word now than a stage that fails in an hour."""

from __future__ import annotations

import shutil
from pathlib import Path

from noria.errors import ConfigError, DiskFull, SourceError
from noria.workspace import Workspace

_FLOOR_BYTES = 500_000_000
"""Models, reports and the records of a run."""
_COPIES = 6
"""Raw, preprocessed, cleaned, augmented and split rows and what quarantine keeps, as if nothing were compressed."""


def check_ready(workspace: Workspace) -> None:
    """Raise what would stop a run: bad configuration, no suite, no source, no room.

    A source behind a URL is left to the stage that reads it.

    Raises
    ------
    ConfigError, SourceError, DiskFull
    """
    source = workspace.config.source.path
    _check_stages(workspace)
    if "://" in source:
        _check_room(workspace, source_bytes=0)
        return
    path = workspace.root / source
    if not path.exists():
        raise SourceError(
            f"the source `{source}` does not exist",
            where=f"{workspace.params}: source.path",
            expected=f"a file or a directory at {path}, or a URL",
            next_step="mend source.path, or `noria init .` to copy the scenario's sample data",
        )
    _check_room(workspace, source_bytes=_size_of(path))


def _check_stages(workspace: Workspace) -> None:
    for path in (workspace.root / "dvc.yaml", workspace.root / ".dvc" / "config", workspace.suite):
        if not path.exists():
            raise ConfigError(
                "the workspace is incomplete",
                where=str(path),
                expected="that it exists",
                next_step=f"`noria init {workspace.root} --scenario {workspace.scenario.name}` adds what is missing",
            )


def _check_room(workspace: Workspace, *, source_bytes: int) -> None:
    needed = _FLOOR_BYTES + _COPIES * source_bytes
    free = shutil.disk_usage(workspace.root).free
    if free < needed:
        raise DiskFull(
            f"a run needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free",
            where=str(workspace.root),
            next_step="make room: `dvc gc -w` drops cached results that the workspace does not use",
        )


def _size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
