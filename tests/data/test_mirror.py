"""Copies of remote objects are whole, or there are none."""

from __future__ import annotations

import errno

import fsspec
import pytest
import s3fs
from s3_server import s3_server

from noria.data import mirror
from noria.data.mirror import Damaged, Mirror, with_retries


def failing(*errors):
    """A call that raises these, one after the other, and then returns."""
    left = list(errors)

    def call():
        if left:
            raise left.pop(0)
        return "done"

    return call


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The waits that were asked for; nobody waits."""
    asked: list[float] = []
    monkeypatch.setattr(mirror.time, "sleep", asked.append)
    return asked


def test_what_may_pass_is_tried_again_later_each_time_within_bounds(waits):
    assert with_retries(failing(ConnectionError(), TimeoutError(), OSError(errno.EIO, "busy")), what="x") == "done"
    assert len(waits) == 3
    assert all(0 <= wait <= bound for wait, bound in zip(waits, (1, 2, 4), strict=True))
    with pytest.raises(ConnectionError):
        with_retries(failing(*(ConnectionError() for _ in range(5))), what="x")
    assert len(waits) == 3 + 4


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError(), OSError(errno.ENOSPC, "full")])
def test_what_will_not_pass_is_not_tried_again(waits, error):
    with pytest.raises(type(error)):
        with_retries(failing(error), what="x")
    assert waits == []


@pytest.mark.parametrize(
    ("said", "is_whole"), [({"size": 4}, True), ({"size": 5}, False), ({"size": 4, "ETag": '"2"'}, True)]
)
def test_what_came_has_the_size_that_was_listed(tmp_path, said, is_whole):
    remote = fsspec.filesystem("memory", skip_instance_cache=True)
    remote.pipe("/m/a", b"abcd")
    copies = Mirror(remote, tmp_path / "mirror")
    copies._infos["/m/a"] = said
    if is_whole:
        assert copies.open("/m/a").read() == b"abcd"
    else:
        with pytest.raises(Damaged, match="4 bytes came of 5"):
            copies.open("/m/a")
        assert not [path for path in (tmp_path / "mirror").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_what_came_from_a_bucket_has_the_md5_of_its_tag(tmp_path, monkeypatch):
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = s3fs.S3FileSystem(skip_instance_cache=True)
        bucket.mkdir("mirrored")
        bucket.pipe({f"mirrored/{number}": bytes([number]) * 1000 for number in range(20)})
        bucket.pipe("mirrored/parts", b"x" * (6 << 20), chunksize=5 << 20)  # the tag of parts is no MD5
        copies = Mirror(s3fs.S3FileSystem(skip_instance_cache=True), tmp_path / "mirror")
        copies.fetch_all(copies.find("mirrored"))
        assert copies.open("mirrored/7").read() == bytes([7]) * 1000
        assert copies.open("mirrored/parts").read() == b"x" * (6 << 20)

        copies = Mirror(s3fs.S3FileSystem(skip_instance_cache=True), tmp_path / "other")
        copies.find("mirrored")
        bucket.pipe("mirrored/7", b"y" * 1000)  # another state than the one that was listed
        with pytest.raises(Damaged, match="the store says"):
            copies.open("mirrored/7")
        copies.find("mirrored")
        assert copies.open("mirrored/7").read() == b"y" * 1000
        copies.prune()
        assert len([path for path in (tmp_path / "other").rglob("*") if path.is_file()]) == 1
