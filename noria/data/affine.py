"""Images moved, turned, scaled, sheared, mirrored and partly erased: what leaves their meaning as it is.

Shapes: N images, K channels, H height, W width, P = H * W places.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from noria.config import SeeingConfig


def varied(images_NKHW: NDArray[np.uint8], config: SeeingConfig, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Each image through a random map of its own; bilinear, black where the original ends. The input stays as it is.

    Erasing: a random rectangle is made black (Zhong et al. 2017, arXiv:1708.04896).
    """
    number, _, height, width = images_NKHW.shape
    maps_N23 = _random_maps(number, (height, width), config, generator)
    moved = _sampled(images_NKHW, maps_N23)
    if config.flip:
        mirrored = np.flatnonzero(generator.random(number) < 0.5)
        moved[mirrored] = moved[mirrored, ..., ::-1]
    for index in np.flatnonzero(generator.random(number) < config.erase):
        tall, wide = (max(1, round(side * generator.uniform(0.1, 0.35))) for side in (height, width))
        top, left = generator.integers(0, height - tall + 1), generator.integers(0, width - wide + 1)
        moved[index, :, top : top + tall, left : left + wide] = 0
    return moved


def _random_maps(
    number: int, size: tuple[int, int], config: SeeingConfig, generator: np.random.Generator
) -> NDArray[np.float32]:
    """(N, 2, 3): where in the original (y, x, measured from its middle) a place of the result comes from."""

    def between(limit: float) -> NDArray[np.float64]:
        return generator.uniform(-limit, limit, number)

    angle = between(math.radians(config.rotation))
    scale_y, scale_x = np.exp(between(math.log1p(config.scale))), np.exp(between(math.log1p(config.scale)))
    shear = between(config.shear)
    cosine, sine = np.cos(angle), np.sin(angle)
    maps_N23 = np.empty((number, 2, 3), np.float32)
    maps_N23[:, 0, 0], maps_N23[:, 0, 1] = cosine * scale_y, -sine * scale_x
    maps_N23[:, 1, 0], maps_N23[:, 1, 1] = (sine + shear) * scale_y, cosine * scale_x
    maps_N23[:, 0, 2], maps_N23[:, 1, 2] = between(config.shift * size[0]), between(config.shift * size[1])
    return maps_N23


def _sampled(images_NKHW: NDArray[np.uint8], maps_N23: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Bilinear samples; a border of black stands around each image for what lies outside."""
    number, channels, height, width = images_NKHW.shape
    middle = np.array([[(height - 1) / 2], [(width - 1) / 2]], np.float32)
    grid_2P = np.indices((height, width), dtype=np.float32).reshape(2, -1) - middle
    source_N2P = maps_N23[:, :, :2] @ grid_2P + maps_N23[:, :, 2:] + middle
    y_NP = np.clip(source_N2P[:, 0], -1, height) + 1
    x_NP = np.clip(source_N2P[:, 1], -1, width) + 1
    top_NP, left_NP = y_NP.astype(np.int64), x_NP.astype(np.int64)
    down_NP, right_NP = y_NP - top_NP, x_NP - left_NP
    framed = np.zeros((number, channels, height + 3, width + 3), np.float32)
    framed[:, :, 1:-2, 1:-2] = images_NKHW
    flat = framed.transpose(0, 2, 3, 1).reshape(-1, channels)
    first_NP = (np.arange(number)[:, None] * (height + 3) + top_NP) * (width + 3) + left_NP
    result = np.zeros((number, height * width, channels), np.float32)
    for step, weight_NP in (
        (0, (1 - down_NP) * (1 - right_NP)),
        (1, (1 - down_NP) * right_NP),
        (width + 3, down_NP * (1 - right_NP)),
        (width + 4, down_NP * right_NP),
    ):
        result += flat[first_NP + step] * weight_NP[..., None]
    moved = np.rint(result).astype(np.uint8).reshape(number, height, width, channels)
    return np.ascontiguousarray(moved.transpose(0, 3, 1, 2))
