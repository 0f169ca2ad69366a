"""A real S3 server for tests: SeaweedFS on free ports of 127.0.0.1, ended by the test that started it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.services import s3


@dataclass(frozen=True)
class S3Server:
    """What a process needs to reach it, and in that the one identity that it knows."""

    environment: Mapping[str, str]

    @property
    def endpoint(self) -> str:
        return self.environment["AWS_ENDPOINT_URL"]

    @property
    def access_key(self) -> str:
        return self.environment["AWS_ACCESS_KEY_ID"]

    @property
    def secret_key(self) -> str:
        return self.environment["AWS_SECRET_ACCESS_KEY"]


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """Serve S3 from `directory` for as long as the block runs."""
    service, environment = s3(directory)
    try:
        service.start()
        yield S3Server(environment)
    finally:
        service.end()
