"""Where rows come from: a file, a directory of files, or any URL that fsspec reads."""

from __future__ import annotations

import difflib
import fnmatch
import lzma
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.core import OpenFile, get_compression, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from noria.config import SourceConfig
from noria.data.links import readable_files
from noria.errors import SourceError, SourceUnavailable

Format = Literal[
    "csv",
    "jsonl",
    "parquet",
    "text",
    "atomic",
    "gettext",
    "tmx",
    "xliff",
    "aligned",
    "squad",
    "media",
    "document",
    "idx",
    "feedback",
]

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
    ".po": "gettext",
    ".mo": "gettext",
    ".tmx": "tmx",
    ".xlf": "xliff",
    ".xliff": "xliff",
    ".inter": "atomic",
}
_RECORDS = (".jsonl", ".ndjson", ".parquet")
"""Files that hold documents one a record under `format: documents`."""
_MEDIA = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""Files that are a row each (`label_from: pattern`), or that rows name."""
_IDX = re.compile(r"[-.]idx[0-9]-ubyte$")
_BAD_BZ2 = "Invalid data stream"  # of all errors, bz2 says no more than an OSError without a number
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_BLOCK_BYTES = 8 << 20  # read-ahead of remote files; s3fs would hold 50 MB
INTAKE = "sources/intake"
"""What the update adds to the source of a workspace; it is no part of what lies around it."""


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes
    ----------
    name:
        Path relative to the source: what the origin of its rows starts with.
    path:
        Path in the file system.
    format:
        How its records are read.
    """

    name: str
    path: str
    format: Format
    filesystem: fsspec.AbstractFileSystem

    @property
    def stem(self) -> str:
        """The file's name without its endings: `neg` of `reviews/neg.txt.gz`."""
        return PurePosixPath(self.path).name.split(".")[0]

    @property
    def directory(self) -> str:
        """The name of the directory that it lies in."""
        return PurePosixPath(self.path).parent.name

    def beside(self, path: str) -> SourceFile:
        """The media file that a row of this one names, by its path from here."""
        if is_http(self.path):
            raise SourceError(
                f"over HTTP a source is one file, and {self.name} needs `{path}` beside it",
                where=self.path,
                expected="Parquet with the bytes in a column",
                next_step="or bring the files to a directory or to S3",
            )
        directory = PurePosixPath(self.path).parent
        return SourceFile(path, str(directory / path), "media", self.filesystem)

    def read_bytes(self, *, most: int) -> tuple[bytes, int]:
        """The beginning of the file, `most` bytes at most, and its true size; never decompressed.

        Raises
        ------
        SourceError
            When it can't be read.
        """
        with reading(self.path), self.filesystem.open(self.path, "rb") as file:
            return bytes(file.read(most)), int(self.filesystem.size(self.path))

    def read(self, *, most: int) -> bytes:
        """The beginning of the file, `most` bytes at most; decompressed where its ending is one that we know.

        Raises
        ------
        SourceError
            When it can't be read.
        """
        if PurePosixPath(self.name.lower()).suffix not in _COMPRESSIONS:
            return self.read_bytes(most=most)[0]
        with self.open() as file:
            return file.read(most)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes, decompressed by its ending; what goes wrong inside the block is a `SourceError`."""
        compression = get_compression(self.name, "infer")
        if compression is None and PurePosixPath(self.name.lower()).suffix in _COMPRESSIONS:
            raise SourceError(
                "reading this file needs a package that is not installed",
                where=self.path,
                next_step="decompress it, or for .zst: pip install zstandard",
            )
        with reading(self.path), OpenFile(self.filesystem, self.path, compression=compression) as file:
            yield cast("BinaryIO", file)


def find_files(source: SourceConfig, *, base: str, mirror: Path | None = None) -> list[SourceFile]:
    """The files of a source, sorted by path; a path that is not a URL is relative to `base`.

    Hidden files, and with `format: auto` files of unknown endings, are left out. With `mirror`, remote objects are
    read through copies there.

    An HTTP host is asked whether it has the file.

    Raises
    ------
    SourceError
        When the source is missing, unreadable, or has no file of a known format.
    """
    url = source.path if "://" in source.path else str(PurePosixPath(base) / source.path)
    try:
        filesystem, root = _filesystem(url, hosts=source.hosts, mirror=mirror)
        if is_http(url):  # a directory there is a page for people
            file = _file_behind(url, source, filesystem)
            filesystem.fs.info(url)  # whose error says why; opening it would only say that it is not there
            return [file]
        if filesystem.isfile(root):
            paths, parent = [root], str(PurePosixPath(root).parent)
        else:
            is_row_each = source.format in ("documents", "media") or source.label_from == "pattern"
            hidden = (".",) if is_row_each else (".", "_")  # `_SUCCESS` stands beside tables
            found = filesystem.find(root, detail=True)
            shown = {path: entry for path, entry in found.items() if not _is_hidden(path, root, hidden)}
            shown = {path: entry for path, entry in shown.items() if not path.startswith(f"{base}/{INTAKE}/")}
            globs = source.documents.exclude if source.format == "documents" else ()
            paths = readable_files(shown, is_excluded=lambda path: _is_named(path.removeprefix(f"{root}/"), globs))
            parent = root
        if not paths:
            raise _missing(source.path, filesystem, root)
    except _errors() as error:
        raise _unreadable(source.path, error) from error
    names = [str(PurePosixPath(path).relative_to(parent)) for path in paths]
    files = [
        SourceFile(name, path, format, filesystem)
        for name, path in zip(names, paths, strict=True)
        if (format := _format_of(name, source))
    ]
    if not files:
        endings = sorted({PurePosixPath(name).suffix or name for name in names})
        raise SourceError(
            "no file here has a format that can be read",
            where=f"{source.path}: {', '.join(endings[:10])}",
            expected=_expected(source),
            next_step="set `source.format` in params.yaml if the ending doesn't say what the files are",
        )
    return files


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What goes wrong with a source inside the block, as a `SourceError`."""
    try:
        yield
    except _errors() as error:
        raise _unreadable(path, error) from error


def is_media(path: str) -> bool:
    """Whether a file is an image or a recording by its ending."""
    return path.lower().endswith(_MEDIA)


def is_http(url: str) -> bool:
    """Whether a source is one file behind a URL of HTTP."""
    return url.startswith(("http://", "https://"))


def _file_behind(url: str, source: SourceConfig, filesystem: fsspec.AbstractFileSystem) -> SourceFile:
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if not (format := _format_of(name, source)):
        raise SourceError(
            "the name in this URL does not say what the file is",
            where=url,
            expected=_expected(source),
            next_step="set `source.format` in params.yaml; what lies in many files is read from a directory or S3",
        )
    return SourceFile(name, url, format, filesystem)


def _filesystem(url: str, *, hosts: Sequence[str], mirror: Path | None = None) -> tuple[fsspec.AbstractFileSystem, str]:
    if is_http(url):
        try:
            from noria.data.http_source import http_filesystem
        except ImportError as error:
            raise _unreadable(url, error) from error
        return http_filesystem(hosts), url
    remote = {"default_block_size": _BLOCK_BYTES} if url.startswith(("s3://", "s3a://")) else {}
    try:
        # a listing that a process kept would hide what came since
        filesystem, root = url_to_fs(url, skip_instance_cache=mirror is not None, **remote)
    except ValueError as error:  # an unknown protocol
        raise _unreadable(url, error) from error
    if mirror is None or isinstance(filesystem, LocalFileSystem):
        return filesystem, str(root)
    from noria.data.mirror import Mirror

    return Mirror(filesystem, mirror), str(root)


def has_media(source: SourceConfig, *, base: str) -> bool:
    """Whether any file of a source would be a row of its own under `label_from: pattern`.

    Raises
    ------
    SourceError
        When the source is missing or unreadable.
    """
    try:
        return bool(find_files(source.model_copy(update={"label_from": "pattern"}), base=base))
    except SourceError as error:
        if error.expected:  # files, and none of them media
            return False
        raise


def _expected(source: SourceConfig) -> str:
    if source.label_from == "pattern":
        return f"files ending in {', '.join(_MEDIA)}"
    if source.format == "documents":
        return f"files that {', '.join(source.documents.include)} names (`source.documents`)"
    return (
        f"files ending in {', '.join(_FORMATS)}, -idx3-ubyte, or one of these compressed ({', '.join(_COMPRESSIONS)})"
    )


def _format_of(name: str, source: SourceConfig) -> Format | None:
    path = PurePosixPath(name.lower())
    if source.label_from == "pattern":
        return "media" if path.suffix in _MEDIA else None
    if source.format == "documents":
        return _format_of_document(name, source)
    path = path.with_suffix("") if path.suffix in _COMPRESSIONS else path
    languages = source.languages
    if languages.target and source.format in ("auto", "aligned") and path.suffix == f".{languages.target.lower()}":
        return None  # it is read beside the one that it translates
    if languages.source and source.format in ("auto", "aligned") and path.suffix == f".{languages.source.lower()}":
        return "aligned"
    if source.format in ("auto", "idx") and (idx := _IDX.search(path.name)):
        return "idx" if idx[0][1:] == "idx3-ubyte" else None  # labels are read beside their images
    found = _FORMATS.get(path.suffix) if source.format == "auto" else source.format
    if found == "gettext" and languages.target:
        names = (part for whole in path.with_suffix("").parts for part in (whole, *whole.split(".")))
        return found if any(is_language(part, languages.target) for part in names) else None
    return found


def _format_of_document(name: str, source: SourceConfig) -> Format | None:
    if not _is_named(name, source.documents.include) or _is_named(name, source.documents.exclude):
        return None
    path = PurePosixPath(name.lower())
    path = path.with_suffix("") if path.suffix in _COMPRESSIONS else path
    return _FORMATS[path.suffix] if path.suffix in _RECORDS else "document"


def is_language(tag: str, wanted: str) -> bool:
    """Whether a tag (`zh_CN`, `zh-cn`) is of a language (`zh_CN`, or `zh` for all of its regions)."""
    ours, theirs = (text.lower().replace("_", "-") for text in (wanted, tag))
    return theirs == ours or theirs.startswith(f"{ours}-")


def _is_named(name: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name if "/" in glob else PurePosixPath(name).name, glob) for glob in globs)


def _is_hidden(path: str, root: str, beginnings: tuple[str, ...]) -> bool:
    return any(part.startswith(beginnings) for part in PurePosixPath(path).relative_to(root).parts)


def _errors() -> tuple[type[Exception], ...]:
    """What reading can raise; S3 has errors that are no `OSError` (no credentials, no connection)."""
    local = (OSError, EOFError, zlib.error, lzma.LZMAError, ImportError)
    botocore, http = (sys.modules.get(name) for name in ("botocore.exceptions", "noria.data.http_source"))
    remote = () if botocore is None else (botocore.BotoCoreError,)
    return (*local, *remote, *(() if http is None else http.ERRORS))


def _missing(path: str, filesystem: fsspec.AbstractFileSystem, root: str) -> SourceError:
    if filesystem.isdir(root):
        return SourceError(
            "the source is a directory without files",
            where=path,
            next_step="put the data there, or change `source.path`",
        )
    parent = PurePosixPath(root).parent
    try:
        siblings = [PurePosixPath(name).name for name in filesystem.ls(str(parent), detail=False)]
    except OSError:
        siblings = []
    near = difflib.get_close_matches(PurePosixPath(root).name, siblings, n=1)
    beginning = path.rstrip("/").removesuffix(PurePosixPath(root).name)
    return SourceError(
        "the source does not exist",
        where=f"params.yaml: source.path: {path}",
        expected="a file, a directory or a URL (relative paths start at the workspace)",
        next_step=f"did you mean `{beginning}{near[0]}`?" if near else "put the data there, or change `source.path`",
    )


def _unreadable(path: str, error: Exception) -> SourceError:
    if isinstance(error, ImportError):
        extra, protocol = ("http", "http://") if is_http(path) else ("s3", "s3://")
        return SourceError(
            f"reading this URL needs a package that is not installed: {error}",
            where=path,
            next_step=f"for {protocol} install the extra: pip install 'noria[{extra}]'",
        )
    advice = "check the path, its permissions, and that the file is whole"
    if path.startswith("s3"):
        advice = "check the bucket, AWS_ENDPOINT_URL and the credentials in the environment"
    elif is_http(path):
        if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # fsspec calls everything not found
        advice = "check the URL, and that its host answers; a host that it redirects to must be in source.hosts too"
    is_damaged = isinstance(error, (EOFError, zlib.error, lzma.LZMAError, BadGzipFile)) or str(error) == _BAD_BZ2
    kind = SourceError if is_damaged else SourceUnavailable
    return kind(f"the source can't be read: {error or type(error).__name__}", where=path, next_step=advice)
