"""What must hold before a run starts: better a clear word now than a stage that fails in an hour."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from noria.config import Config, read_params
from noria.data.sources import INTAKE, find_files, is_http
from noria.errors import ConfigError, DiskFull, SourceError
from noria.workspace import Workspace

_FLOOR_BYTES = 500_000_000
"""Models, reports and the records of a run."""
_COPIES = 6
"""Raw, preprocessed, cleaned, augmented and split rows and what quarantine keeps, as if nothing were compressed."""


def check_ready(workspace: Workspace) -> None:
    """Raise what would stop a run: bad configuration, no suite, no source, no room.

    A source behind a URL is left to the stage that reads it, except that an HTTP host must have the file.

    Raises
    ------
    ConfigError, SourceError, DiskFull
    """
    check_workspace(workspace)
    source = workspace.config.source.path
    if is_http(source):  # before DVC asks, which follows redirects anywhere
        find_files(workspace.config.source, base=str(workspace.root))
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
    _check_links(path)
    _check_room(workspace, source_bytes=_size_of(path))


def check_workspace(workspace: Workspace) -> None:
    """Raise what makes a directory no workspace: no or bad configuration, no stages, no suite, no intake.

    Raises
    ------
    ConfigError
    """
    scenario = workspace.config.scenario
    stages = workspace.root / "dvc.yaml"
    for path in (stages, workspace.root / ".dvc" / "config", workspace.suite, workspace.intake):
        if not path.exists():
            raise ConfigError(
                "the workspace is incomplete",
                where=str(path),
                expected="that it exists",
                next_step=f"`noria init {workspace.root} --scenario {scenario}` adds what is missing",
            )
    ingest = yaml.safe_load(stages.read_text(encoding="utf-8"))["stages"].get("ingest", {})
    if INTAKE not in ingest.get("deps", []):
        raise ConfigError(
            f"`ingest` does not depend on {INTAKE}: feedback and refusals would not be seen",
            where=str(stages),
            expected="the stages of this version of Noria",
            next_step=f"move your own changes aside, delete it, and `noria init {workspace.root}` writes it anew",
        )
    if missing := unwritten_sections(workspace):
        raise ConfigError(
            f"params.yaml does not say `{missing[0]}`, and DVC compares only what is written",
            where=str(workspace.params),
            expected=f"that it names {', '.join(missing)}; a section may be empty (`train: {{}}`)",
            next_step=f"`noria init {workspace.root}` adds what is missing, at its default",
        )


def unwritten_sections(workspace: Workspace) -> tuple[str, ...]:
    """Sections that a stage of `dvc.yaml` depends on and `params.yaml` leaves out: DVC would refuse to run it."""
    path = workspace.root / "dvc.yaml"
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].values()
        needed = {key.split(".")[0] for stage in stages for key in stage.get("params", []) if isinstance(key, str)}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"dvc.yaml can't be read: {error}", where=str(path)) from error
    written = read_params(workspace.params)
    return tuple(key for key in Config.model_fields if key in needed and key not in written)


def _check_links(source: Path) -> None:
    """DVC reads all that lies in a source, hidden files too, and stops at a link to nothing."""
    for path in source.rglob("*") if source.is_dir() else ():
        if path.is_symlink() and not path.exists():
            raise SourceError(
                "a link in the source leads nowhere",
                where=f"{path} -> {path.readlink()}",
                expected="files, folders, and links to files",
                next_step="remove it, or bring back what it leads to",
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
