"""MovieLens 100K as a log of events, from the files that come with the package `recbole`.

F. M. Harper and J. A. Konstan 2015, "The MovieLens Datasets: History and Context". Its terms forbid
passing the data on, so it is copied into a workspace's sources and into no repository.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from noria.data.samples import package_directory

_INSIDE = Path("dataset_example", "ml-100k")


def write_movielens(directory: Path) -> None:
    """Write `ml-100k.inter` with films named by title and year instead of by number.

    Where two films share both, the number stands behind. A file that is there already stays as it is.

    Raises
    ------
    SourceError
        When `recbole` is not installed.
    """
    source = package_directory("recbole") / _INSIDE
    target = directory / "ml-100k.inter"
    if target.exists():
        return
    names = _names((source / "ml-100k.item").read_text(encoding="utf-8"))
    directory.mkdir(parents=True, exist_ok=True)
    header, *lines = (source / "ml-100k.inter").read_text(encoding="utf-8").splitlines()
    fields = [line.split("\t") for line in lines]
    named = ["\t".join([user, names.get(item, item), *rest]) for user, item, *rest in fields]
    target.write_text("\n".join([header, *named]) + "\n", encoding="utf-8")


def _names(table: str) -> dict[str, str]:
    """Film number -> title and year."""
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    titles = {number: f"{title} ({year})" if year.strip() else title for number, title, year, *_ in rows}
    shared = {title for title, count in Counter(titles.values()).items() if count > 1}
    return {number: f"{title} [{number}]" if title in shared else title for number, title in titles.items()}
