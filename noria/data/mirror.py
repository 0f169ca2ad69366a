"""A remote source read through copies on this machine: an object is fetched once for each state that it is in."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 5
_DELAY_S, _MOST_DELAY_S = 0.5, 8.0
_AT_ONCE = 8
_MD5 = re.compile(r"[0-9a-f]{32}")
_CHUNK_BYTES = 1 << 20
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class Damaged(OSError):
    """What came is not what the store says it has."""


class Mirror(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system whose files are opened as copies; listings go to the remote one.

    A copy is known by the object's path and tag, so one that is there is of the state that is listed.

    Parameters
    ----------
    remote:
        Where the objects are.
    directory:
        Where the copies are.
    """

    cachable = False

    def __init__(self, remote: AbstractFileSystem, directory: Path) -> None:
        super().__init__()
        self.remote = remote
        self.directory = directory
        self._infos: dict[str, Mapping[str, Any]] = {}

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False
    ) -> Mapping[str, Any] | list[str]:
        """All objects below a path."""
        found = with_retries(lambda: self.remote.find(path, maxdepth, withdirs, detail=True), what=path)
        self._infos |= found
        return found if detail else sorted(found)

    def info(self, path: str) -> Mapping[str, Any]:
        """What the store says of an object, as it was when it was first listed."""
        if path not in self._infos:
            self._infos[path] = with_retries(lambda: self.remote.info(path), what=path)
        return self._infos[path]

    def ls(self, path: str, detail: bool = True) -> list[Any]:
        """What is directly below a path."""
        return with_retries(lambda: list(self.remote.ls(path, detail=detail)), what=path)

    def fetch(self, path: str) -> Path:
        """The copy of an object, made unless it is there.

        Raises
        ------
        OSError
            When it can't be had, or what came is not what the store says it has.
        """
        target = self._place(path)
        if not (target.is_file() and target.stat().st_size == self.info(path)["size"]):
            with_retries(lambda: self._download(path, target), what=path)
        return target

    def fetch_all(self, paths: Sequence[str]) -> None:
        """Copies of several objects, made at the same time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self.fetch, paths))

    def prune(self) -> None:
        """Remove the copies of what was not listed: objects that are gone, and states that they were in."""
        kept = {self._place(path) for path in self._infos}
        for path in self.directory.glob("*/*"):
            if path not in kept:
                path.unlink()

    def _open(self, path: str, mode: str = "rb", **settings: object) -> BinaryIO:
        return self.fetch(path).open("rb")

    def _place(self, path: str) -> Path:
        name = hashlib.sha256(f"{path}\0{tag_of(self.info(path))}".encode()).hexdigest()
        return self.directory / name[:2] / name

    def _download(self, path: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".", dir=target.parent)
        os.close(descriptor)
        try:
            self.remote.get_file(path, name)
            self._verify(path, Path(name))
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)

    def _verify(self, path: str, copy: Path) -> None:
        """Size, and MD5 where the tag is one: not of parts, nor of what S3 encrypts with a key of its own."""
        info, size = self.info(path), copy.stat().st_size
        if size != info["size"]:
            raise Damaged(f"{path}: {size:,} bytes came of {info['size']:,}")
        tag = tag_of(info)
        if _MD5.fullmatch(tag) and _md5(copy) != tag and not self._is_encrypted(path):
            raise Damaged(f"{path}: what came has the MD5 {_md5(copy)}, and the store says {tag}")

    def _is_encrypted(self, path: str) -> bool:
        if not hasattr(self.remote, "call_s3"):
            return True  # no S3: whatever the tag is, it need not be an MD5
        bucket, key, _ = self.remote.split_path(path)
        head = self.remote.call_s3("head_object", Bucket=bucket, Key=key)
        return "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head


def tag_of(info: Mapping[str, Any]) -> str:
    """What tells one state of a remote object from another: its ETag, or a digest of all that is known of it."""
    for name in ("ETag", "etag", "Last-Modified"):
        if info.get(name):
            return str(info[name]).strip('"')
    return hashlib.sha256(str(sorted(info.items(), key=str)).encode()).hexdigest()


def with_retries(call: Callable[[], T], *, what: str) -> T:
    """The result of `call`, which is tried again where that can help, later each time and never at one moment.

    The waits are "full jitter": uniform below a limit that doubles (Brooker 2015, "Exponential Backoff And Jitter").
    """
    botocore = sys.modules.get("botocore.exceptions")  # connections that break are no `OSError` there
    transient = (OSError,) if botocore is None else (OSError, botocore.HTTPClientError)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return call()
        except _LASTING:
            raise
        except transient as error:
            if attempt == _ATTEMPTS or getattr(error, "errno", None) == errno.ENOSPC:
                raise
            delay_s = random.uniform(0, min(_MOST_DELAY_S, _DELAY_S * 2**attempt))
            logger.warning("%s: %s; again in %.1f s", what, error, delay_s)
            time.sleep(delay_s)
    raise AssertionError("the last attempt returns or raises")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
