"""Symbolic links in a source: a file behind one is read, once; a folder behind one is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from noria.errors import SourceError


def readable_files(
    found: Mapping[str, Mapping[str, object]], *, is_excluded: Callable[[str], bool] = lambda path: False
) -> list[str]:
    """The paths that can be read to an end, sorted: no pipes, no devices, no links to what is read anyway.

    A link to nothing is left out: there is nothing to lose (and DVC, which can't bear one, stops a run before).

    Parameters
    ----------
    found:
        What fsspec lists, by path.
    is_excluded:
        Whether the user left out a folder, which is said with a slash behind it, or a link.

    Raises
    ------
    SourceError
        Where a link leads to a folder: neither fsspec nor DVC follows it, so its rows would be lost without a word.
    """
    paths = sorted(path for path, entry in found.items() if not entry.get("islink") and entry["type"] != "other")
    links = sorted(path for path, entry in found.items() if entry.get("islink"))
    if not links:
        return paths
    read = {Path(path).resolve() for path in paths}
    for path in links:
        if is_excluded(path) or is_excluded(f"{path}/"):
            continue
        link = Path(path)
        if link.is_dir():
            raise SourceError(
                "a link in the source leads to a folder, and would not be followed",
                where=f"{path} -> {link.readlink()}",
                expected="files, folders, and links to files",
                next_step="put the folder itself there (or mount it), or point `source.path` at it; of "
                f'`format: documents`, `source.documents.exclude: ["{link.name}"]` leaves it out',
            )
        if link.is_file() and (target := link.resolve()) not in read:
            read.add(target)
            paths.append(path)
    return sorted(paths)
