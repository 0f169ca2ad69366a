"""Encoded images to pixels, with limits before anything is decoded; what can't be decoded is a `Fault`, never a crash.

The size stands in an image's header, so that a few bytes that would become gigabytes (a decompression bomb)
are refused unread. Only the decoders of `FORMATS` are tried, whatever else Pillow was built with.

Shapes: H height, W width, K channels (1 or 3).
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000
_PILLOW_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(AssertionError, RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises on broken files, by its own issue tracker; its decoders share no base class."""
_WHITE = 255
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes
    ----------
    pixels:
        uint8 (H, W, K), upright, grey or RGB, transparent parts on white.
    """

    pixels: np.ndarray


@dataclass(frozen=True)
class Fault:
    """Why there is no picture: the short name of the rule, and a sentence for people."""

    rule: str
    reason: str


def decode(payload: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture | Fault:
    """The picture in an encoded image, the first of an animation; or what is wrong with it.

    Rules: `empty`, `too_large`, `not_an_image`, `too_many_pixels`, `broken_image`.
    """
    if not payload:
        return Fault("empty", "the image has no bytes")
    if len(payload) > MAX_BYTES:
        return Fault("too_large", f"{len(payload):,} bytes, at most {MAX_BYTES:,} expected")
    try:
        with _without_warnings(), Image.open(io.BytesIO(payload), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                reason = f"its header says {width:,} x {height:,} pixels, at most {max_pixels:,} are decoded"
                return Fault("too_many_pixels", reason)
            return Picture(_upright_pixels(opened))
    except UnidentifiedImageError:
        return Fault("not_an_image", f"no image of {', '.join(FORMATS)}: it starts with {payload[:12]!r}")
    except Image.DecompressionBombError as error:
        return Fault("too_many_pixels", str(error))
    except _PILLOW_ERRORS as error:
        return Fault("broken_image", f"an image that can't be decoded: {error or type(error).__name__}")


def brightness_and_contrast(pixels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels, by their histogram: a large image needs no copy in float."""
    counts = np.zeros(_WHITE + 1, np.int64)
    flat = pixels.reshape(-1)
    for start in range(0, len(flat), _AT_ONCE):
        counts += np.bincount(flat[start : start + _AT_ONCE], minlength=_WHITE + 1)
    values = np.arange(_WHITE + 1)
    mean = float(counts @ values / counts.sum())
    return mean, math.sqrt(max(0.0, float(counts @ np.square(values) / counts.sum()) - mean**2))


def resized(pixels: np.ndarray, *, size: int, num_channels: int) -> np.ndarray:
    """uint8 (K, `size`, `size`): scaled to fit with its proportions, in the middle, on black; grey or RGB as asked."""
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels).convert("L" if num_channels == 1 else "RGB")
    if image.size != (size, size):
        image = ImageOps.pad(image, (size, size), method=Image.Resampling.BILINEAR, color=0)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if num_channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def encode_png(pixels: np.ndarray) -> bytes:
    """The PNG of uint8 (H, W, K); equal pixels give equal bytes."""
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, format="PNG")
    return out.getvalue()


def _upright_pixels(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, K): turned as its EXIF orientation says, in 8 bits, on white; K is 1 where all is grey."""
    image.load()
    turned = _turned(image)
    if turned.mode.startswith(("I", "F")):
        return _narrowed(turned)[..., None]
    if turned.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in turned.info:
        layer = turned if turned.mode == "RGBA" else turned.convert("RGBA")
        on_white = Image.new("RGBA", layer.size, (_WHITE,) * 4)
        on_white.alpha_composite(layer)
        turned = on_white.convert("L" if turned.mode in ("LA", "La", "L", "1") else "RGB")
    elif turned.mode not in ("L", "RGB"):
        turned = turned.convert("L" if turned.mode == "1" else "RGB")
    array = np.asarray(turned, dtype=np.uint8)
    if array.ndim == 3 and all(np.array_equal(array[..., 0], array[..., channel]) for channel in (1, 2)):
        array = array[..., 0]  # a grey picture, in a format that only knows colours
    return array[..., None] if array.ndim == 2 else array


def _turned(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; an image whose EXIF is broken stays as it lies."""
    with suppress(*_PILLOW_ERRORS):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _narrowed(image: Image.Image) -> np.ndarray:
    """16 bits to 8; in the wider modes, numbers up to 255 are 8 bits already."""
    values = np.asarray(image).astype(np.float32)
    is_wide = image.mode.startswith("I;16") or values.max(initial=0) > _WHITE
    return np.clip(values / 257 if is_wide else values, 0, _WHITE).round().astype(np.uint8)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow warns of odd files; ours are judged by what comes out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
