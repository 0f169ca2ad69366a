"""Images as they come: every colour mode, turned, cut off, hostile."""

import io

import numpy as np
import pytest
from PIL import Image

from noria.config import SeeingConfig
from noria.data.affine import varied
from noria.data.images import duplicate_key
from noria.data.pixels import Fault, Picture, decode, encode_png

GREY = np.arange(16 * 12, dtype=np.uint8).reshape(16, 12, 1)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_colour_mode_of_png_becomes_grey_or_rgb_in_eight_bits(mode):
    image = Image.fromarray((GREY[..., 0].astype(np.uint16)) * 257) if mode == "I;16" else Image.new(mode, (12, 16))
    found = decode(encoded(image))
    assert isinstance(found, Picture) and found.pixels.dtype == np.uint8
    assert found.pixels.shape[:2] == (16, 12) and found.pixels.shape[2] in (1, 3)
    if mode == "I;16":
        assert (found.pixels == GREY).all()


def test_cmyk_becomes_rgb():
    found = decode(encoded(Image.new("CMYK", (12, 16), (0, 255, 255, 0)), "JPEG"))
    assert isinstance(found, Picture)
    assert found.pixels[0, 0, 0] > 200 > 60 > found.pixels[0, 0, 2]


def test_what_is_transparent_is_white():
    found = decode(encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 0))))
    assert isinstance(found, Picture) and (found.pixels == 255).all()


def test_an_image_stands_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    image = Image.fromarray(GREY[..., 0])
    found = decode(encoded(image, exif=exif))
    assert isinstance(found, Picture)
    assert (found.pixels[..., 0] == np.rot90(GREY[..., 0], -1)).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_an_image_cut_off_anywhere_is_a_fault_or_a_picture_and_never_a_crash(format):
    whole = encoded(Image.fromarray(GREY[..., 0]), format)
    assert isinstance(decode(whole), Picture)
    found = [decode(whole[:end]) for end in range(len(whole))]
    assert isinstance(found[0], Fault) and found[0].rule == "empty"
    assert isinstance(found[len(whole) // 3], Fault)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_flipped_bytes_are_a_fault_or_a_picture_and_never_a_crash(format):
    whole = encoded(Image.fromarray(GREY[..., 0]), format)
    rng = np.random.default_rng(0)
    for _ in range(200):
        payload = bytearray(whole)
        for place in rng.integers(0, len(payload), 3):
            payload[place] = rng.integers(0, 256)
        assert isinstance(decode(bytes(payload), max_pixels=10_000), Picture | Fault)


def test_the_same_picture_in_another_format_has_the_same_key():
    image = Image.fromarray(GREY[..., 0])
    files = [encoded(image, format) for format in ("PNG", "BMP", "GIF")]
    files += [
        encoded(image, "WEBP", lossless=True),
        *(encoded(image.convert(mode)) for mode in ("P", "RGB", "RGBA", "LA")),
    ]
    keys = {duplicate_key({"image": file}) for file in files}
    assert len(keys) == 1
    assert duplicate_key({"image": encode_png(255 - GREY)}) not in keys


def test_variations_depend_on_the_generator_alone_and_no_variation_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 14, 10), dtype=np.uint8)
    first, again = (varied(images, SeeingConfig(), np.random.default_rng(7)) for _ in range(2))
    assert (first == again).all() and (first != images).any()
    still = SeeingConfig(shift=0, rotation=0, scale=0, shear=0, erase=0)
    assert (varied(images, still, np.random.default_rng(7)) == images).all()
