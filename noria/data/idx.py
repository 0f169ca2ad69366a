"""Images in IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST come: one file of pixels, one of labels.

The format (LeCun, "The MNIST database", yann.lecun.com/exdb/mnist): two zero bytes, the type (8 is uint8), the
number of axes, the size of each as a big-endian int32, then the values.
Shapes: N images, H height, W width.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from noria.config import SourceConfig
from noria.data.blocks import Block, Rejected
from noria.data.media import binary_columns, is_optional
from noria.data.sources import SourceFile
from noria.errors import ConfigError, SourceError

_UINT8 = 8
_MOST_PIXELS = 4_000_000
_ROWS_AT_ONCE, _BYTES_AT_ONCE = 500, 8 << 20


def read_idx(file: SourceFile, *, source: SourceConfig, schema: pa.Schema, target: str) -> Iterator[Block | Rejected]:
    """Each image of `…images-idx3-ubyte` as a PNG, with its number out of `…labels-idx1-ubyte` beside it.

    What either file announces and does not hold is one rejection, `truncated`; what one holds beyond that is
    one, `unannounced`.

    Raises
    ------
    ConfigError
        When the scenario's rows hold no image.
    SourceError
        When either file is missing or no IDX file, or both announce other counts.
    """
    columns = binary_columns(schema)
    if not columns or source.label_from != "column":
        raise ConfigError(
            "an IDX file holds images, and their labels are in a file beside it",
            where=f"params.yaml: source ({file.name})",
            expected="a scenario of images, and `source.label_from: column`",
        )
    empty = [name for name in schema.names if name not in (columns[0], target)]
    if lacking := [name for name in empty if not is_optional(schema.field(name))]:
        raise ConfigError(
            f"an IDX file has no `{lacking[0]}`", where=f"params.yaml: source ({file.name})", expected="a table"
        )
    with file.open() as stream:
        count, height, width = _sizes(stream, file, num_axes=3)
        labels = _Labels(labels_beside(file), most=count)
        if count != labels.announced:
            raise SourceError(
                f"{count:,} images and {labels.announced:,} labels",
                where=f"{file.path} and {labels.name}",
                expected="as many labels as images",
                next_step="take both files from one data set",
            )
        if not 0 < height * width <= _MOST_PIXELS:
            raise SourceError(f"images of {height:,} x {width:,} pixels", where=file.path, expected="a possible size")
        number = 0
        for images_NHW in _images(stream, height=height, width=width, count=min(count, len(labels.values))):
            yield _block(file, number, images_NHW, labels.values, column=columns[0], target=target, empty=empty)
            number += len(images_NHW)
        has_more = number == count and bool(stream.read(1))
    if has_more or labels.has_more:
        reason = f"there is more than the {count:,} images and labels that are announced"
        yield Rejected(f"{file.name}:{count + 1}", {"announced": count}, "unannounced", reason)
    if number < count:
        reason = f"{count:,} images announced, and {number:,} there with their labels"
        yield Rejected(f"{file.name}:{number + 1}", {"announced": count, "read": number}, "truncated", reason)


class _Labels:
    """The labels of an IDX file, `most` at most; how many it announces; whether there are more than that."""

    def __init__(self, file: SourceFile, *, most: int) -> None:
        self.name = file.path
        with file.open() as stream:
            (self.announced,) = _sizes(stream, file, num_axes=1)
            self.values = stream.read(min(self.announced, most))
            self.has_more = self.announced <= most and bool(stream.read(1))


def labels_beside(file: SourceFile) -> SourceFile:
    """The file of the labels of a file of images.

    Raises
    ------
    SourceError
        When the name does not tell.
    """
    name = PurePosixPath(file.path).name
    beside = name.replace("idx3", "idx1").replace("images", "labels")
    if beside == name:
        raise SourceError("no telling which file has its labels", where=file.path, expected="…-images-idx3-ubyte")
    return file.beside(beside)


def _sizes(stream: BinaryIO, file: SourceFile, *, num_axes: int) -> tuple[int, ...]:
    """The size of each axis."""
    head = stream.read(4 + 4 * num_axes)
    if len(head) < 4 + 4 * num_axes or head[:4] != bytes((0, 0, _UINT8, num_axes)):
        raise SourceError(
            f"no IDX file of {num_axes} axes of bytes: it begins with {head[:4]!r}",
            where=file.path,
            next_step="fetch the file again",
        )
    return struct.unpack(f">{num_axes}I", head[4:])


def _images(stream: BinaryIO, *, height: int, width: int, count: int) -> Iterator[np.ndarray]:
    """uint8 (N, H, W), as long as whole images come and `count` is not reached."""
    size, left = height * width, count
    at_once = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // size))
    while left:
        payload = stream.read(size * min(left, at_once))
        found = len(payload) // size
        if not found:
            return
        yield np.frombuffer(payload, np.uint8, found * size).reshape(found, height, width)
        left -= found


def _block(
    file: SourceFile,
    start: int,
    images_NHW: np.ndarray,
    labels: bytes,
    *,
    column: str,
    target: str,
    empty: Sequence[str],
) -> Block:
    from noria.data.pixels import encode_png

    numbers = range(start + 1, start + 1 + len(images_NHW))
    return Block(
        file.name,
        numbers,
        {
            column: [encode_png(image_HW[..., None]) for image_HW in images_NHW],
            target: [str(labels[number - 1]) for number in numbers],
            **{name: [""] * len(numbers) for name in empty},
        },
    )
