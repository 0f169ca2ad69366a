"""What a source consists of, each piece with a tag that changes when the piece does.

An object is a file that rows are read from, together with those that it can't be read without: the other language
of two aligned files, the labels of IDX images, the media that lie below a table of a scenario of media.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from noria.artifacts import digest_file, digest_of
from noria.config import SourceConfig
from noria.data.bitexts import partner_of
from noria.data.idx import labels_beside
from noria.data.intake import feedback_files, read_refused
from noria.data.links import readable_files
from noria.data.media import binary_columns
from noria.data.sources import SourceFile, find_files, is_http, is_media, reading

OBJECTS = "objects.json"
"""In the raw artifact: the objects that were read."""
_TABLES = ("csv", "jsonl", "parquet", "text")


@dataclass(frozen=True)
class SourceObject:
    """One object of a source.

    Attributes
    ----------
    tag:
        SHA-256 of a local file, the ETag of a remote one; of several files, a SHA-256 over their names and tags.
    size:
        Bytes of all its files.
    """

    file: SourceFile
    tag: str
    size: int

    @property
    def name(self) -> str:
        """Path relative to the source."""
        return self.file.name


def find_objects(
    source: SourceConfig, *, schema: pa.Schema, base: Path, mirror: Path | None = None, remembered: Path | None = None
) -> list[SourceObject]:
    """The objects of a source, sorted by name, and behind them the rows that feedback became.

    What the gate refused as a whole (`sources/intake/refused.yaml`) is among them. Tags of local files are kept in
    the file `remembered`, by size and time of change, so that a file that did not change is not read.

    Raises
    ------
    SourceError
        When the source is missing, unreadable, or has no file of a known format.
    """
    files = [*find_files(source, base=str(base), mirror=mirror), *feedback_files(base)]
    tags = _Tags(remembered)
    objects = []
    for file in files:
        found = {path: tags.of(file.filesystem, path) for path in [file.path, *_companions(file, source, schema)]}
        tag = found[file.path][0] if len(found) == 1 else _tag_of_several(file, found)
        objects.append(SourceObject(file, tag, sum(size for _, size in found.values())))
    tags.save()
    return objects


def left_out(objects: list[SourceObject], *, base: Path) -> list[SourceObject]:
    """Those that the gate refused as a whole in the state that they are in now."""
    refused = {(each.object, each.tag) for each in read_refused(base)}
    return [each for each in objects if (each.name, each.tag) in refused]


def fetch_copies(objects: Sequence[SourceObject]) -> None:
    """Fetch what of remote objects is not on this machine yet, many at a time."""
    by_mirror: dict[AbstractFileSystem, list[str]] = {}
    for each in objects:
        if hasattr(each.file.filesystem, "fetch_all"):
            by_mirror.setdefault(each.file.filesystem, []).append(each.file.path)
    for mirror, paths in by_mirror.items():
        with reading(paths[0]):
            mirror.fetch_all(paths)


def prune_mirror(objects: Sequence[SourceObject]) -> None:
    """Remove copies of what is no longer in the source that these are all objects of."""
    for filesystem in {each.file.filesystem for each in objects}:
        if hasattr(filesystem, "prune"):
            filesystem.prune()


def read_objects(directory: Path) -> dict[str, str]:
    """The tags of the objects that an artifact was read from, by name; none where it does not say."""
    return {each["name"]: each["tag"] for each in _listed(directory)}


def read_rows_of_objects(directory: Path) -> dict[str, int]:
    """Rows that each of them had."""
    return {each["name"]: each["rows"] for each in _listed(directory)}


def _listed(directory: Path) -> list[dict[str, Any]]:
    try:
        listed: list[dict[str, Any]] = json.loads((directory / OBJECTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return listed


def _companions(file: SourceFile, source: SourceConfig, schema: pa.Schema) -> list[str]:
    """Paths of the files that `file` can't be read without."""
    if is_http(file.path):
        return []
    if file.format == "aligned":
        beside = [partner_of(file, source).path]
    elif file.format == "idx":
        beside = [labels_beside(file).path]
    elif file.format in _TABLES and binary_columns(schema):
        folder = str(PurePosixPath(file.path).parent)
        below = file.filesystem.find(folder, detail=True)
        return [path for path in readable_files(below) if is_media(path)]
    else:
        return []
    return [path for path in beside if file.filesystem.exists(path)]  # what is missing is said when it is read


def _tag_of_several(file: SourceFile, found: Mapping[str, tuple[str, int]]) -> str:
    """By their names as `file` has them, so that it is the same wherever the source lies."""
    folder = PurePosixPath(file.path).parent
    return digest_of({str(PurePosixPath(path).relative_to(folder)): tag for path, (tag, _) in found.items()})


class _Tags:
    """Tag and size of files; digests of local ones are remembered."""

    def __init__(self, remembered: Path | None) -> None:
        self._path = remembered
        self._known: dict[str, list[Any]] = {}
        self._seen: dict[str, list[Any]] = {}
        if remembered is not None and remembered.exists():
            with suppress(ValueError):  # cut short as the machine stopped: it is computed again
                self._known = json.loads(remembered.read_text(encoding="utf-8"))

    def of(self, filesystem: AbstractFileSystem, path: str) -> tuple[str, int]:
        """The tag and the bytes of one file."""
        if isinstance(filesystem, LocalFileSystem):
            return self._of_local(path)
        if is_http(path):
            return _tag_of_url(filesystem, path)
        from noria.data.mirror import tag_of

        info = filesystem.info(path)
        return tag_of(info), int(info["size"])

    def save(self) -> None:
        """Remember what was asked for, and nothing else."""
        if self._path is not None and self._seen != self._known:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".new")
            temporary.write_text(json.dumps(self._seen), encoding="utf-8")
            temporary.replace(self._path)

    def _of_local(self, path: str) -> tuple[str, int]:
        if path not in self._seen:
            about = Path(path).stat()
            state = [about.st_size, about.st_mtime_ns, about.st_ino]
            known = self._known.get(path)
            same = known is not None and known[:3] == state
            self._seen[path] = known if same and known else [*state, digest_file(Path(path))]
        return str(self._seen[path][3]), int(self._seen[path][0])


def _tag_of_url(filesystem: AbstractFileSystem, url: str) -> tuple[str, int]:
    """By the headers of its host, or of a host that says nothing by the bytes."""
    from noria.data.mirror import tag_of

    info: Mapping[str, Any] = filesystem.fs.info(url)
    if any(name in info for name in ("ETag", "Last-Modified")):
        return tag_of(info), int(info["size"] or 0)
    with filesystem.open(url, "rb") as file:
        path = Path(file.name)
        return digest_file(path), path.stat().st_size
