"""Where the data inside an installed package lies."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from noria.errors import SourceError


def package_directory(package: str) -> Path:
    """The folder of an installed package; finding it does not import it.

    Raises
    ------
    SourceError
        When it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"the data comes with the package `{package}`, which is not installed",
            next_step="make peers, then run in .venv-bench",
        )
    return Path(next(iter(spec.submodule_search_locations)))
