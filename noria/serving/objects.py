"""Where a model store keeps its objects: a directory, or S3. Both can create exclusively and compare-and-swap.

Everything a store promises (versions that never change, a pointer that is never half written, one
winner among racing promotions) rests on these two operations, so a file system without them is
refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from noria.artifacts import read_artifact
from noria.errors import ArtifactError, StoreError


@dataclass(frozen=True)
class Stored:
    """An object's bytes, and the tag that a later swap compares."""

    data: bytes
    tag: str


class Objects(Protocol):
    """Objects by key ("reviews/production.json"), below one root."""

    def check(self) -> None:
        """Nothing, when this place can create exclusively and compare-and-swap; asked once a process.

        Raises
        ------
        StoreError
            When it can't, or can't be reached.
        """
        ...

    def read(self, key: str) -> Stored | None:
        """The object, or None."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object; False when it exists already."""
        ...

    def swap(self, key: str, data: bytes, tag: str) -> bool:
        """Replace the object if its tag is still `tag`; False when somebody was faster."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Names directly below a prefix, sorted; empty when there is no such prefix."""
        ...

    def put_tree(self, source: Path, key: str) -> None:
        """Copy a directory in; its manifest appears last, so a half-copied directory is incomplete.

        What is there and whole stays; what is damaged is replaced.
        """
        ...

    def get_tree(self, key: str, cache: Path) -> Path:
        """The directory on this machine; a remote one is copied to `cache` first."""
        ...


def open_objects(url: str) -> Objects:
    """The objects at a directory or an `s3://bucket/prefix` URL.

    Raises
    ------
    StoreError
        When the kind of store is not supported.
    """
    protocol, _, rest = url.rpartition("://")
    if protocol in ("", "file"):
        return LocalObjects(Path(rest))
    if protocol == "s3":
        from noria.serving.s3 import S3Objects  # loads s3fs only for who needs it

        return S3Objects(rest)
    raise StoreError(
        f"`{protocol}://` is no store that can swap a pointer atomically",
        where=f"deploy.store: {url}",
        expected="a directory or s3://bucket/prefix",
        next_step="set `deploy.store` in params.yaml",
    )


class LocalObjects:
    """Files below a directory; shared by processes of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check(self) -> None:
        """Every local file system that `link` and `rename` work on."""

    def read(self, key: str) -> Stored | None:
        try:
            data = (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(data, hashlib.sha256(data).hexdigest())

    def create(self, key: str, data: bytes) -> bool:
        with self._written(key, data) as temporary:
            try:
                os.link(temporary, self.root / key)  # fails where a rename would replace
            except FileExistsError:
                return False
        return True

    def swap(self, key: str, data: bytes, tag: str) -> bool:
        with self._written(key, data) as temporary, FileLock(f"{self.root / key}.lock"):
            old = self.read(key)
            if old is None or old.tag != tag:
                return False
            temporary.replace(self.root / key)
        return True

    def names(self, prefix: str) -> list[str]:
        directory = self.root / prefix
        if not directory.is_dir():
            return []
        return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))  # none half written

    def put_tree(self, source: Path, key: str) -> None:
        final = self.root / key
        with _filesystem_errors(str(final)):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
            try:
                shutil.copytree(source, temporary, dirs_exist_ok=True)
                temporary.chmod(0o755)
                settle(temporary, final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def get_tree(self, key: str, cache: Path) -> Path:
        return self.root / key

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A complete temporary file beside the object's place."""
        final = self.root / key
        with _filesystem_errors(str(final)):
            final.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{final.name}-", dir=final.parent)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.chmod(0o644)
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)


def is_whole(directory: Path) -> bool:
    """Whether an artifact is there with every byte that its manifest tells of."""
    try:
        read_artifact(directory)
    except ArtifactError:
        return False
    return True


def settle(temporary: Path, final: Path) -> None:
    """Rename into place, unless what is there is whole: another process was faster."""
    if is_whole(final):
        return
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)


@contextmanager
def _filesystem_errors(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the model store can't be written: {error.strerror or error}",
            where=where,
            expected="a directory that can be written, with space left",
            next_step="the live model is untouched; mend the directory and run again",
        ) from error
