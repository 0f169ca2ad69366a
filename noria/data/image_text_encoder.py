"""An image and a text to tensors: each through the encoder of its kind, and a flag where the image is missing.

Fitted on the training rows and nothing else; imports no torch, since the server and the data nodes use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noria.config import Config
from noria.data.image_encoder import ImageEncoder, PixelMoments, load_image_encoder
from noria.data.image_text import IMAGE, TEXT
from noria.data.text_encoder import TextEncoder, fit_text_encoder, load_text_encoder

_NAMES = ("pixels", "has_image")


@dataclass(frozen=True)
class ImageTextEncoder:
    """The fitted encoder; see noria.scenarios.base.Encoder for its protocol."""

    text: TextEncoder
    image: ImageEncoder

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return self.text.labels

    def encode(self, values: Mapping[str, object]) -> dict[str, np.ndarray]:
        """What the text's encoder gives (one unknown token for none), `pixels` uint8 (K * S * S), black for none, and
        `has_image` bool (1)."""
        return self.encode_batch([values])[0]

    def encode_batch(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray]]:
        """Many rows, much faster than one by one."""
        read = self.text.encode_batch([{**row, TEXT: row[TEXT] or ""} for row in rows])
        return [
            {**tensors, **self.image.encode(row), "has_image": np.array([bool(row[IMAGE])])}
            for tensors, row in zip(read, rows, strict=True)
        ]

    def targets(self, rows: Sequence[Mapping[str, object]]) -> list[dict[str, np.ndarray] | None]:
        """`class` int64 (1); None for a label that no row to fit has."""
        return self.text.targets(rows)

    def collate(self, encoded: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The text's tensors, padded, `pixels` uint8 (B, K, S, S) and `has_image` bool (B)."""
        read = [{name: array for name, array in row.items() if name not in _NAMES} for row in encoded]
        has_image = np.concatenate([row["has_image"] for row in encoded])
        return {**self.text.collate(read), **self.image.collate(encoded), "has_image": has_image}

    def num_tokens(self, encoded: Mapping[str, np.ndarray]) -> int:
        """Tokens and patches."""
        return self.text.num_tokens(encoded) + self.image.num_patches

    def save(self, directory: Path) -> None:
        """Write the folders `text` and `image`."""
        self.text.save(directory / TEXT)
        self.image.save(directory / IMAGE)


def fit_image_text_encoder(rows: Iterable[Mapping[str, object]], config: Config) -> ImageTextEncoder:
    """Train the tokenizer, collect n-grams and labels, and measure the pixels, in one pass that keeps no image.

    Raises
    ------
    TrainingError
        When there are fewer than two classes.
    """
    shape = config.model.image
    moments = PixelMoments(size=shape.size, channels=shape.channels)

    def read() -> Iterator[Mapping[str, object]]:
        for row in rows:
            if row[IMAGE]:
                moments.add(row[IMAGE])
            yield {TEXT: row[TEXT] or "", "label": row["label"]}

    text = fit_text_encoder(
        read(), text_column=TEXT, label_column="label", tokenizer=config.tokenizer, wide=config.model.wide
    )
    return ImageTextEncoder(text, moments.encoder(text.labels, num_patches=shape.num_patches))


def load_image_text_encoder(directory: Path) -> ImageTextEncoder:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When a file is missing.
    """
    return ImageTextEncoder(load_text_encoder(directory / TEXT), load_image_encoder(directory / IMAGE))
