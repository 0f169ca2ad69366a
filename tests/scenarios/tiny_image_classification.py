"""Bars that lie or stand, as PNGs in a directory per label, and what the gate refuses among them."""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "model": {
        "image": {"size": 16, "channels": 1, "patch": 4, "stride": 4},
        "layers": 1,
        "dim": 16,
        "heads": 2,
        "feed_forward_dim": 32,
    },
    "train": {
        "epochs": 10,
        "batch_tokens": 256,
        "threads": 1,
        "precision": "fp32",
        "seeing": {"rotation": 5.0, "shear": 0.0},
    },
    "evaluate": {"resamples": 200, "min_slice_rows": 5},
    "optimize": {"latency_repeats": 10, "max_quality_drop": 0.2, "max_slice_drop": 1.0},
}


def write_source(path: Path, *, dirty: bool) -> Path:
    """A source below `path`; a dirty one fails the gate, and passes it once it is cleaned."""
    source = path / "bars"
    rng = np.random.default_rng(0)
    for label in ("lying", "standing"):
        (source / label).mkdir(parents=True)
        for number in range(150):
            (source / label / f"{number:03d}.png").write_bytes(png(bar(label, rng)))
    if dirty:
        _plant_faults(source)
    return source


def bar(label: str, rng: np.random.Generator) -> np.ndarray:
    """A noisy bar, uint8 (16, 16)."""
    pixels = rng.integers(0, 60, (16, 16), dtype=np.uint8)
    place = int(rng.integers(3, 12))
    pixels[place : place + 2, 2:14] = rng.integers(180, 255)
    return pixels if label == "lying" else np.ascontiguousarray(pixels.T)


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises ten thousand million pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def _plant_faults(source: Path) -> None:
    good = (source / "lying" / "000.png").read_bytes()
    lying, standing = source / "lying", source / "standing"
    (lying / "empty.png").write_bytes(b"")
    (lying / "letter.png").write_text("this is no image\n" * 20)
    (lying / "cut.png").write_bytes(good[: len(good) // 2])
    (lying / "bomb.png").write_bytes(bomb())
    (lying / "blank.png").write_bytes(png(np.full((16, 16), 7, np.uint8)))
    (lying / "dot.png").write_bytes(png(np.array([[0, 255], [255, 0]], np.uint8)))
    for number in range(20):
        (lying / f"copy{number}.png").write_bytes((lying / f"{number:03d}.png").read_bytes())
    (standing / "conflict.png").write_bytes((lying / "100.png").read_bytes())
