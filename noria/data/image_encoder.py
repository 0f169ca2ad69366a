"""Images to tensors: decoded, scaled to one size, in grey or in colour.

Fitted on the training rows and nothing else; saved as JSON; imports no torch, since the server and
the data nodes use it.

Shapes: K channels, S pixels each way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from noria.config import ImageConfig
from noria.data.images import picture_of
from noria.data.pixels import Fault, resized
from noria.errors import ArtifactError, TrainingError

_FILE = "encoder.json"
_LEAST_STD = 1e-3


@dataclass(frozen=True)
class ImageEncoder:
    """The fitted encoder; see noria.scenarios.base.Encoder for its protocol.

    Attributes
    ----------
    labels:
        Class names, sorted.
    mean, std:
        Of the training images' pixels, of 1.
    """

    labels: tuple[str, ...]
    size: int
    channels: int
    num_patches: int
    mean: float
    std: float

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """`pixels` uint8 (K * S * S); black for what can't be decoded, which the gate keeps out."""
        return {"pixels": _pixels(values["image"], size=self.size, channels=self.channels).ravel()}

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """`encode` of each."""
        return [self.encode(row) for row in rows]

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """`class` int64 (1); None for a label that no row to fit has."""
        numbers = {label: np.array([number]) for number, label in enumerate(self.labels)}
        found = (numbers.get(str(row["label"])) for row in rows)
        return [None if number is None else {"class": number} for number in found]

    def collate(self, encoded: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """`pixels` uint8 (B, K, S, S)."""
        return {"pixels": self.as_images(np.stack([row["pixels"] for row in encoded]))}

    def as_images(self, pixels: np.ndarray) -> np.ndarray:
        """(B, K, S, S) of rows of flat pixels."""
        return pixels.reshape(-1, self.channels, self.size, self.size)

    def num_tokens(self, encoded: Mapping[str, np.ndarray]) -> int:
        """Patches."""
        del encoded  # every image has as many
        return self.num_patches

    def save(self, directory: Path) -> None:
        """Write `encoder.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _FILE).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class PixelMoments:
    """Mean and spread of the pixels of images, one after the other."""

    def __init__(self, *, size: int, channels: int) -> None:
        self._size = size
        self._channels = channels
        self._means: list[float] = []
        self._squares: list[float] = []

    def add(self, payload: object) -> None:
        """One image, by the bytes of its file."""
        pixels = _pixels(payload, size=self._size, channels=self._channels) / 255.0
        self._means.append(float(pixels.mean()))
        self._squares.append(float(np.square(pixels).mean()))

    def encoder(self, labels: Sequence[str], *, num_patches: int) -> ImageEncoder:
        """The encoder that scales by them; without images it would scale by 1."""
        mean = float(np.mean(self._means)) if self._means else 0.0
        square = float(np.mean(self._squares)) if self._squares else 1.0
        std = float(np.sqrt(max(square - mean**2, 0.0)))
        return ImageEncoder(
            tuple(labels),
            self._size,
            self._channels,
            num_patches,
            round(mean, 6),
            max(round(std, 6), _LEAST_STD),
        )


def fit_image_encoder(rows: Iterable[Mapping[str, object]], *, image: ImageConfig) -> ImageEncoder:
    """Collect the labels, and the mean and spread of the pixels.

    Raises
    ------
    TrainingError
        When there are fewer than two classes.
    """
    labels: set[str] = set()
    moments = PixelMoments(size=image.size, channels=image.channels)
    for row in rows:
        labels.add(str(row["label"]))
        moments.add(row["image"])
    if len(labels) < 2:
        raise TrainingError(
            f"the training rows hold {len(labels)} class(es)",
            where="column `label`",
            expected="at least two different labels",
            next_step="check `source` in params.yaml: where the label comes from",
        )
    return moments.encoder(sorted(labels), num_patches=image.num_patches)


def load_image_encoder(directory: Path) -> ImageEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When the file is missing.
    """
    try:
        values = json.loads((directory / _FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError("there is no image encoder here", where=str(directory), expected=_FILE) from None
    return ImageEncoder(**{**values, "labels": tuple(values["labels"])})


def _pixels(payload: object, *, size: int, channels: int) -> np.ndarray:
    found = picture_of(payload)
    if isinstance(found, Fault):
        return np.zeros((channels, size, size), np.uint8)
    return resized(found.pixels, size=size, num_channels=channels)
