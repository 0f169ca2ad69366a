"""Log-mel frames: equal to the formula, deaf to level and outer silence, and resampling without aliases."""

import math

import numpy as np
import pytest

from noria.data.audio import Sound
from noria.data.mel import (
    EDGE_SAMPLES,
    SAMPLE_RATE_HZ,
    clipped_share,
    features,
    loudness_db,
    mel_filters,
    num_frames_of,
    outer_silence,
    power,
    prepare,
    resample,
)

GENERATOR = np.random.default_rng(0)
NOISE = GENERATOR.standard_normal(3_000).astype(np.float32) * 0.1


def tone(hz: float, *, rate: int, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def written_out(samples: np.ndarray, *, num_mels: int, range_db: float) -> np.ndarray:
    """The formula, cell by cell."""
    padded = np.concatenate([np.zeros(1_160), samples.astype(np.float64), np.zeros(1_160)])
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 400) for n in range(400)]
    top = 2595 * math.log10(1 + 7_600 / 700)
    bottom = 2595 * math.log10(1 + 20 / 700)
    edges = [700 * (10 ** ((bottom + (top - bottom) * i / (num_mels + 1)) / 2595) - 1) for i in range(num_mels + 2)]
    level = np.zeros((1 + (len(samples) + 1_920) // 160, num_mels))
    for frame in range(len(level)):
        block = padded[frame * 160 : frame * 160 + 400] * window
        for band in range(num_mels):
            total = weights = 0.0
            for k in range(257):
                hz = k * 16_000 / 512
                rising = (hz - edges[band]) / (edges[band + 1] - edges[band])
                falling = (edges[band + 2] - hz) / (edges[band + 2] - edges[band + 1])
                if (weight := max(0.0, min(rising, falling))) > 0:
                    found = sum(
                        x * complex(math.cos(a), math.sin(a))
                        for x, a in zip(block, -2 * np.pi * k * np.arange(400) / 512, strict=True)
                    )
                    total, weights = total + weight * abs(found) ** 2, weights + weight
            level[frame, band] = 10 * math.log10(max(total / weights, 1e-10))
    return 1 + 2 * np.maximum(level - level.max(), -range_db) / range_db


def test_frames_are_those_of_the_formula():
    samples = NOISE[:400]
    found = features(samples, num_mels=10, dynamic_range_db=70.0)
    expected = written_out(samples, num_mels=10, range_db=70.0)
    assert found.shape == expected.shape == (num_frames_of(400), 10)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_every_band_hears_something_at_any_warp():
    for num_mels in (10, 64, 80, 128):
        for warp in (0.7, 0.8, 1.0, 1.2, 1.4):
            filters = mel_filters(num_mels, warp)
            assert np.isfinite(filters).all()
            np.testing.assert_allclose(filters.sum(0), 1, atol=1e-5)


def test_a_longer_tract_moves_a_tone_down_and_a_shorter_one_up():
    spectrum = power(tone(2_000, rate=16_000))
    at = {warp: (spectrum @ mel_filters(64, warp)).sum(0).argmax() for warp in (0.8, 1.0, 1.2)}
    assert at[1.2] < at[1.0] < at[0.8]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 7_919])
def test_resampling_keeps_what_both_rates_can_hold(rate):
    found = resample(tone(1_000, rate=rate), sample_rate_hz=rate)
    expected = tone(1_000, rate=SAMPLE_RATE_HZ)[: len(found)]
    assert abs(len(found) - SAMPLE_RATE_HZ // 2) <= 3
    middle = slice(500, -500)
    assert np.abs(found[: len(expected)][middle] - expected[middle]).max() < 0.02


def test_resampling_makes_no_alias_of_what_the_new_rate_can_not_hold():
    found = resample(tone(12_000, rate=44_100), sample_rate_hz=44_100)
    assert np.abs(found[500:-500]).max() < 0.005


def test_level_and_outer_silence_change_nothing():
    speech = tone(500, rate=16_000) * np.hanning(8_000).astype(np.float32)
    plain, quiet, framed = (
        features(prepare(Sound(samples, 16_000)), num_mels=64, dynamic_range_db=70.0)
        for samples in (speech, 0.01 * speech, np.pad(speech, 32_000))
    )
    np.testing.assert_allclose(plain, quiet, atol=1e-3)
    assert len(plain) <= len(framed) <= len(plain) + 25
    assert framed.max() == plain.max() == 1


@pytest.mark.parametrize("samples", [np.zeros(1), np.zeros(5_000), np.ones(1), np.full(3, 1e-30), np.full(99, 1e9)])
def test_no_samples_give_frames_that_are_no_numbers(samples):
    prepared = prepare(Sound(samples.astype(np.float32), 8_000))
    found = features(prepared, num_mels=64, dynamic_range_db=70.0)
    assert np.isfinite(found).all() and len(found) >= 2 * EDGE_SAMPLES // 160


def test_silence_clipping_and_loudness_are_measured():
    speech = tone(500, rate=8_000)
    assert outer_silence(np.pad(speech, (1_600, 800)), sample_rate_hz=8_000) == (1_600, 800)
    assert clipped_share(speech) < 0.01
    assert clipped_share(np.clip(10 * speech, -1, 1)) > 0.8
    assert clipped_share(np.clip(10 * speech, -0.2, 0.2)) == 0  # flat, but not at the limit of a recording
    assert loudness_db(speech, sample_rate_hz=8_000) == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.1)
    assert loudness_db(np.zeros(100, np.float32), sample_rate_hz=8_000) == -120
