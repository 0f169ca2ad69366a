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
from typing import Any, Protocol

from filelock import FileLock

from noria.artifacts import MANIFEST, read_artifact
from noria.errors import ArtifactError, StoreError


@dataclass(frozen=True)
class Stored:
    """An object's bytes, and the tag that a later swap compares."""

    data: bytes
    tag: str


class Objects(Protocol):
    """Objects by key ("reviews/production.json"), below one root."""

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
                _settle(temporary, final)
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


class S3Objects:
    """Objects in a bucket, with conditional puts (If-None-Match, If-Match)."""

    def __init__(self, root: str) -> None:
        import s3fs  # half a second, and only stores on S3 need it

        self.root = root.rstrip("/")
        self._s3: Any = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)

    def read(self, key: str) -> Stored | None:
        path = self._path(key)
        with _s3_errors(path):
            try:
                # The tag first: were the object replaced in between, a swap with the old tag fails, as it must.
                tag = self._s3.info(path, refresh=True)["ETag"]
                return Stored(self._s3.cat_file(path), tag)
            except FileNotFoundError:
                return None

    def create(self, key: str, data: bytes) -> bool:
        return self._put(key, data, IfNoneMatch="*")

    def swap(self, key: str, data: bytes, tag: str) -> bool:
        return self._put(key, data, IfMatch=tag)

    def names(self, prefix: str) -> list[str]:
        path = self._path(prefix)
        with _s3_errors(path):
            try:
                found = self._s3.ls(path, detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return sorted({name.rstrip("/").rpartition("/")[2] for name in found} - {path.rpartition("/")[2], ""})

    def put_tree(self, source: Path, key: str) -> None:
        path = self._path(key)
        files = sorted(file for file in source.rglob("*") if file.is_file())
        files.sort(key=lambda file: file == source / MANIFEST)
        with _s3_errors(path):
            for file in files:
                self._s3.put_file(str(file), f"{path}/{file.relative_to(source).as_posix()}")

    def get_tree(self, key: str, cache: Path) -> Path:
        final = cache / key
        if _is_whole(final):
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        path = self._path(key)
        try:
            with _s3_errors(path):
                for name in self._s3.find(path):
                    target = temporary / str(name).removeprefix(f"{path}/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._s3.get_file(name, str(target))
            _settle(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return final

    def _put(self, key: str, data: bytes, **condition: str) -> bool:
        path = self._path(key)
        with _s3_errors(path):
            try:
                self._s3.pipe_file(path, data, **condition)
            except OSError as error:
                if not _lost_race(error):
                    raise
                return False
        return True

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


def _is_whole(directory: Path) -> bool:
    """Whether an artifact is there with every byte that its manifest tells of."""
    try:
        read_artifact(directory)
    except ArtifactError:
        return False
    return True


def _settle(temporary: Path, final: Path) -> None:
    """Rename into place, unless what is there is whole: another process was faster."""
    if _is_whole(final):
        return
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)


def _lost_race(error: OSError) -> bool:
    """Whether S3 refused a conditional put because of its condition: 412, or 409 while another is under way."""
    response = getattr(error.__cause__, "response", {})
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict")


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


@contextmanager
def _s3_errors(path: str) -> Iterator[None]:
    """Say what is wrong with a bucket; a missing object or a lost race passes through the caller first."""
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except (OSError, BotoCoreError) as error:
        raise StoreError(
            f"the model store on S3 does not answer as it should: {error}",
            where=f"s3://{path}",
            expected="a bucket that these credentials may read and write",
            next_step="check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that the bucket exists",
        ) from error
