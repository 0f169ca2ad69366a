"""Objects in a bucket: conditional puts that were seen to work, bounded patience, and reads that are verified.

Two layers wait and ask again, each for what it alone can see. botocore ("standard" mode: exponential, full jitter)
repeats a request that was refused for a moment (500, 502, 503, 504, SlowDown), not answered, or cut off before its
answer began. Here a whole read is repeated whose body broke off or is not what was written. s3fs's own retries,
which would multiply these and have no jitter, are off.

Credentials come from where botocore looks for them (environment, profile, role of the machine), never from a URL.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import s3fs
from botocore.exceptions import BotoCoreError, FlexibleChecksumError, IncompleteReadError, ResponseStreamingError
from fsspec.asyn import sync

from noria.artifacts import MANIFEST, digest_file
from noria.errors import StoreError
from noria.serving.objects import Stored, is_whole, settle

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_CONNECT_S = 5.0
_READ_S = 20.0  # between two pieces of an answer, not for all of it
_ATTEMPTS = 5
_FIRST_WAIT_S = 0.2
_DIGEST = "noria-sha256"
"""Metadata of an object: the digest of what was written."""
_PROBE = ".noria-conditional-puts"
_PROBE_TEXT = b"Noria asks with this object whether the store honours If-None-Match and If-Match.\n"

_checked: set[tuple[str, str]] = set()
"""(endpoint, bucket) whose conditional puts were seen to work by this process."""


class _Damaged(Exception):
    """What arrived is not what was written."""


_BROKEN_OFF = (
    _Damaged,
    TimeoutError,
    ResponseStreamingError,
    IncompleteReadError,
    FlexibleChecksumError,
    aiohttp.ClientError,
)
"""What befalls the body of an answer; all else botocore has repeated already."""


class S3Objects:
    """Objects in a bucket, with conditional puts (If-None-Match, If-Match).

    Objects of `create` and `swap` carry their SHA-256 as metadata, and `read` compares it; a directory's files are
    compared with its manifest. An object without that metadata was written by something else: HTTP verifies its
    length, and whoever parses it the rest.
    """

    def __init__(self, root: str) -> None:
        """`root`: "bucket/prefix".

        Raises
        ------
        StoreError
            When it holds credentials.
        """
        _refuse_credentials(root)
        self.root = root.rstrip("/")
        retries = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
        config = {"retries": retries, "connect_timeout": _CONNECT_S, "read_timeout": _READ_S}
        self._s3: Any = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, config_kwargs=config)
        self._s3.retries = 1

    def check(self) -> None:
        """Ask for two puts that must be refused.

        The probe's object stays, so that nobody needs leave to delete, and holds what it is.
        """
        place = self._path(_PROBE)
        with _s3_errors(place):
            asked = (str(self._s3.s3.meta.endpoint_url), self.root.partition("/")[0])
            if asked in _checked:
                return
            self._is_ignored(place, IfNoneMatch="*")  # from now on it is there, whoever wrote it
            for header, value in (("If-None-Match", "*"), ("If-Match", '"0123456789abcdef0123456789abcdef"')):
                if self._is_ignored(place, **{header.replace("-", ""): value}):
                    raise _ignores(header, f"s3://{self.root}")
        _checked.add(asked)

    def read(self, key: str) -> Stored | None:
        path = self._path(key)
        with _s3_errors(path):
            try:
                return _patiently(lambda: self._read(path))
            except FileNotFoundError:
                return None

    def create(self, key: str, data: bytes) -> bool:
        self.check()
        path = self._path(key)
        with _s3_errors(path):
            return self._put_if(path, data, IfNoneMatch="*")

    def swap(self, key: str, data: bytes, tag: str) -> bool:
        self.check()
        path = self._path(key)
        with _s3_errors(path):
            return self._put_if(path, data, IfMatch=tag)

    def names(self, prefix: str) -> list[str]:
        path = self._path(prefix)
        with _s3_errors(path):
            try:
                found = _patiently(lambda: self._s3.ls(path, detail=False, refresh=True))
            except FileNotFoundError:
                return []
        return sorted({name.rstrip("/").rpartition("/")[2] for name in found} - {path.rpartition("/")[2], ""})

    def put_tree(self, source: Path, key: str) -> None:
        path = self._path(key)
        files = sorted(file for file in source.rglob("*") if file.is_file() and file != source / MANIFEST)
        with _s3_errors(path):
            for file in files:
                target = f"{path}/{file.relative_to(source).as_posix()}"
                _patiently(partial(self._s3.put_file, str(file), target))
            self._put(f"{path}/{MANIFEST}", (source / MANIFEST).read_bytes())

    def get_tree(self, key: str, cache: Path) -> Path:
        final = cache / key
        if is_whole(final):
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        try:
            self._fetch_tree(key, temporary)
            settle(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return final

    def _fetch_tree(self, key: str, directory: Path) -> None:
        """Files as the manifest has them. What is damaged in the store itself is fetched too: its reader says so."""
        manifest = self.read(f"{key}/{MANIFEST}")
        digests = _digests(manifest.data) if manifest else {}
        path = self._path(key)
        with _s3_errors(path):
            for found in _patiently(lambda: self._s3.find(path)):
                name = str(found).removeprefix(f"{path}/")
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                with suppress(_Damaged):
                    _patiently(partial(self._fetch, found, directory / name, digest=digests.get(name)))

    def _fetch(self, path: str, target: Path, *, digest: str | None) -> None:
        self._s3.get_file(path, str(target))
        if digest is not None and digest_file(target) != digest:
            raise _Damaged(f"{path}: not the digest that its manifest says")

    def _read(self, path: str) -> Stored:
        """Bytes, tag and digest of one answer, so that they belong together."""
        data, answer = sync(self._s3.loop, self._get, path)
        written = answer.get("Metadata", {}).get(_DIGEST)
        if len(data) != answer["ContentLength"] or written not in (None, hashlib.sha256(data).hexdigest()):
            raise _Damaged(f"{len(data)} bytes of {answer['ContentLength']}, or not those that were written")
        return Stored(data, answer["ETag"])

    async def _get(self, path: str) -> tuple[bytes, Mapping[str, Any]]:
        bucket, key, _ = self._s3.split_path(path)
        answer = await self._s3._call_s3("get_object", Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            return await body.read(), answer

    def _put_if(self, path: str, data: bytes, **condition: str) -> bool:
        """Whether the object is now what was put.

        A put whose answer was lost meets its own object when it is repeated: then it has won, not lost.
        """

        attempts = count()

        def put() -> bool:
            attempt = next(attempts)
            try:
                self._put(path, data, **condition)
            except OSError as error:
                if not _lost_race(error):
                    raise
                return _was_repeated(error, attempt) and self._read(path).data == data
            return True

        return _patiently(put)

    def _is_ignored(self, path: str, **condition: str) -> bool:
        """Whether a put succeeds that must be refused, or the store says that it does not know its condition."""
        try:
            self._put(path, _PROBE_TEXT, **condition)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                return True
            if not _lost_race(error):
                raise
            return False
        return True

    def _put(self, path: str, data: bytes, **condition: str) -> None:
        self._s3.pipe_file(path, data, Metadata={_DIGEST: hashlib.sha256(data).hexdigest()}, **condition)

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"


def _patiently(call: Callable[[], Result]) -> Result:
    """Call until it succeeds, at most `_ATTEMPTS` times, with exponential waits of full jitter between.

    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015: wait uniform(0, first * 2^attempt).
    """
    for attempt in range(_ATTEMPTS):
        try:
            return call()
        except _BROKEN_OFF as error:
            if attempt == _ATTEMPTS - 1:
                raise
            wait_s = random.uniform(0, _FIRST_WAIT_S * 2**attempt)
            logger.info("S3: %s; asking again in %.1f s", type(error).__name__, wait_s)
            time.sleep(wait_s)
    raise AssertionError("the last attempt returns or raises")


def _digests(manifest: bytes) -> Mapping[str, str]:
    """What a manifest says of its files; a damaged one is its reader's to report."""
    try:
        return dict(json.loads(manifest)["files"])
    except (ValueError, KeyError, TypeError):
        return {}


def _refused(error: OSError) -> Mapping[str, Any]:
    return getattr(error.__cause__, "response", {})


def _lost_race(error: OSError) -> bool:
    """Whether S3 refused a conditional put because of its condition: 412, or 409 while another is under way."""
    return _refused(error).get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict")


def _was_repeated(error: OSError, attempt: int) -> bool:
    return attempt > 0 or _refused(error).get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def _ignores(header: str, where: str) -> StoreError:
    return StoreError(
        f"this S3 store ignores `{header}`: two promotions at once could both win",
        where=where,
        expected="conditional puts, as AWS S3, SeaweedFS, MinIO and Ceph have them",
        next_step="upgrade the store or the proxy before it, or set `deploy.store` to another; nothing was promoted",
    )


def _refuse_credentials(root: str) -> None:
    bucket = root.partition("/")[0]
    if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):  # a secret may hold a slash
        raise StoreError(
            "the URL of the store holds credentials",
            where="deploy.store",
            expected="s3://bucket/prefix",
            next_step="take them out of params.yaml, give them in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "or a profile (AWS_PROFILE), and change them: a file is no place for a secret",
        )


@contextmanager
def _s3_errors(path: str) -> Iterator[None]:
    """Say what is wrong with a bucket; a missing object or a lost race passes through the caller first."""
    try:
        yield
    except (OSError, BotoCoreError, aiohttp.ClientError, _Damaged) as error:
        raise StoreError(
            f"the model store on S3 does not answer as it should: {error}",
            where=f"s3://{path}",
            expected="a bucket that these credentials may read and write",
            next_step="check AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that the bucket exists",
        ) from error
