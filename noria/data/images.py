"""Images as data: measured for the gate, repaired, compared, augmented, sliced.

Everything here is a pure function of one row or one batch. A row's image is the bytes of its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from noria.config import AugmentConfig, CleanConfig, CleanImageConfig, SeeingConfig
from noria.data.affine import varied
from noria.data.media import from_base64
from noria.data.pixels import Fault, Picture, brightness_and_contrast, decode, encode_png
from noria.scenarios.base import Repaired

_BRIGHTNESS, _CONTRAST, _SMALL = (25, 40), 75, 64
"""Bounds of the slices, set for digits on black."""

MOST_BASE64 = 28_000_000
"""Of a request."""
_MOST_PIXELS_OF_A_REQUEST = 24_000_000
"""A few kilobytes can stand for far more pixels than anyone has to wait for."""

MEASURED = (
    pa.field("decodable", pa.bool_()),
    pa.field("width", pa.int64()),
    pa.field("height", pa.int64()),
    pa.field("num_channels", pa.int64()),
    pa.field("num_bytes", pa.int64()),
    pa.field("brightness", pa.float64()),
    pa.field("contrast", pa.float64()),
)
"""The columns that `measure` adds, in order; of what can't be decoded, all but `num_bytes` are 0."""


def measure(batch: pa.RecordBatch, *, column: str = "image") -> pa.RecordBatch:
    """The batch and the columns of `MEASURED` behind its own.

    brightness is the mean of the pixels and contrast their standard deviation, both of 255.
    """
    rows = [_measured(value) for value in batch.column(column).to_pylist()]
    for place, field in enumerate(MEASURED):
        batch = batch.append_column(field, pa.array([row[place] for row in rows], field.type))
    return batch


def _measured(payload: object) -> tuple[bool, int, int, int, int, float, float]:
    num_bytes = len(payload) if isinstance(payload, bytes) else 0
    found = picture_of(payload)
    if isinstance(found, Fault):
        return False, 0, 0, 0, num_bytes, 0.0, 0.0
    height, width, num_channels = found.pixels.shape
    return True, width, height, num_channels, num_bytes, *brightness_and_contrast(found.pixels)


def seeable(text: str) -> str:
    """The same base64 of a request, if it is of an image that can be decoded.

    Raises
    ------
    ValueError
        When it is none, or has too many pixels.
    """
    found = decode(from_base64(text), max_pixels=_MOST_PIXELS_OF_A_REQUEST)
    if isinstance(found, Fault):
        raise ValueError(found.reason)
    return text


def picture_of(payload: object) -> Picture | Fault:
    """`decode` of a value that may be no bytes at all."""
    return decode(payload if isinstance(payload, bytes) else b"")


def repair(values: Mapping[str, object], config: CleanConfig) -> Repaired:
    """The row with its label trimmed, or the rule that it breaks; an image is never painted over.

    Rules: those of `image_fault`, `missing_label`.
    """
    fault = image_fault(values.get("image"), config.image)
    if fault is not None:
        return Repaired(None, rule=fault.rule, reason=fault.reason)
    return with_label(values)


def image_fault(payload: object, config: CleanImageConfig) -> Fault | None:
    """Why an image is refused. Rules: those of `noria.data.pixels.decode`, `too_small`, `blank`."""
    found = decode(payload if isinstance(payload, bytes) else b"", max_pixels=config.max_pixels)
    if isinstance(found, Fault):
        return found
    height, width, _ = found.pixels.shape
    if min(height, width) < config.min_side:
        return Fault("too_small", f"{width} x {height} pixels, at least {config.min_side} each way expected")
    _, contrast = brightness_and_contrast(found.pixels)
    if contrast < config.min_contrast:
        reason = f"nothing can be seen: its pixels vary by {contrast:.1f} of 255, {config.min_contrast:g} expected"
        return Fault("blank", reason)
    return None


def with_label(values: Mapping[str, object]) -> Repaired:
    """The row with its label trimmed; a row without one is refused, as `missing_label`."""
    label = values.get("label")
    trimmed = label.strip() if isinstance(label, str) else ""
    if not trimmed:
        return Repaired(None, rule="missing_label", reason="the row has no label")
    return Repaired({**values, "label": trimmed}, repairs=() if label == trimmed else ("label_whitespace",))


def duplicate_key(values: Mapping[str, object]) -> str:
    """A digest of the pixels: the same picture in another file format is the same picture.

    What is no picture is told apart by its label too: two empty files contradict nobody.
    """
    payload = values.get("image")
    found = picture_of(payload)
    if isinstance(found, Fault):
        content = payload if isinstance(payload, bytes) else b""
        return "bytes " + hashlib.blake2b(f"{values.get('label')}\0".encode() + content, digest_size=16).hexdigest()
    shape = "x".join(map(str, found.pixels.shape))
    return f"{shape} {hashlib.blake2b(found.pixels.tobytes(), digest_size=16).hexdigest()}"


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator
) -> Mapping[str, object] | None:
    """The row with its image moved, turned, scaled and partly erased, as PNG; None where it can't be decoded.

    Training varies every image anew in each epoch (`train.seeing`), which costs no disk: this is for
    whoever wants such rows written down.
    """
    del config  # its settings are about text; how far an image is varied has one set of defaults
    found = picture_of(values["image"])
    if isinstance(found, Fault):
        return None
    image = varied(found.pixels.transpose(2, 0, 1)[None], SeeingConfig(), generator)[0]
    return {**values, "image": encode_png(np.ascontiguousarray(image.transpose(1, 2, 0)))}


def slices(values: Mapping[str, object]) -> Mapping[str, bool]:
    """Groups of validation rows that a person would ask about: how bright, how much contrast, colour, size."""
    known: tuple[Any, ...] = tuple(values.get(field.name) for field in MEASURED)
    measured = _measured(values.get("image")) if None in known else known
    decodable, width, height, num_channels, _, brightness, contrast = measured
    if not decodable:
        return {}
    dark, bright = _BRIGHTNESS
    return {
        f"dark (mean < {dark})": brightness < dark,
        f"middling (mean {dark}-{bright})": dark <= brightness < bright,
        f"bright (mean ≥ {bright})": brightness >= bright,
        f"low contrast (< {_CONTRAST})": contrast < _CONTRAST,
        "in colour": num_channels == 3,
        f"small (< {_SMALL} pixels)": min(height, width) < _SMALL,
    }
