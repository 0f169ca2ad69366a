"""What else a clip could have sounded like: other voices, microphones and rooms, as a pure function of the generator.

Tape speed moves pitch, formants and tempo together (Ko et al. 2015, "Audio augmentation for speech
recognition"); tempo and vocal tract length (Jaitly & Hinton 2013) move one of them, at no cost: they
are another hop and other filters. Noise, room and microphone are applied to power spectra, where they are
cheap too. Then SpecAugment (Park et al. 2019, arXiv:1904.08779).

Shapes: S samples, T frames, K frequencies, F mel bands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from noria.config import HearingConfig
from noria.data.mel import HOP, SAMPLE_RATE_HZ, Samples, log_mel, mel_power

_WARPS = 21  # filters for so many lengths of the vocal tract
_FULL_SCALE = 32_768
_EQUALIZER_WAVES = 4
_NOISE_SLOPES = (-2.0, 0.5)  # of noise power over frequency, as exponents: from brown to a little blue
_QUIET = 1e-9
Generator = np.random.Generator


def hear(
    pcm_S: NDArray[np.generic],
    generator: Generator,
    *,
    config: HearingConfig,
    num_mels: int,
    dynamic_range_db: float,
) -> Samples:
    """Log-mel frames float32 (T, F) of a changed clip; `pcm_S` is int16 at 16 kHz."""
    samples: Samples = np.asarray(pcm_S, dtype=np.float32) / np.float32(_FULL_SCALE)
    samples = _overdriven(samples, generator, config)
    samples = _at_speed(samples, 2 ** generator.uniform(-config.speed_octaves, config.speed_octaves))
    samples = _shifted(samples, generator, config)
    tempo = 2 ** generator.uniform(-config.tempo_octaves, config.tempo_octaves)
    warp = 1 + config.vocal_tract * (2 * int(generator.integers(_WARPS)) / (_WARPS - 1) - 1)
    power_TF = mel_power(samples, num_mels=num_mels, hop=HOP * tempo, warp=round(warp, 6))
    power_TF = _reverberated(power_TF, generator, config)
    power_TF = power_TF * _equalizer(num_mels, generator, config)
    power_TF = _noisy(power_TF, generator, config)
    return _masked(log_mel(power_TF, dynamic_range_db=dynamic_range_db), generator, config)


def _overdriven(samples: Samples, generator: Generator, config: HearingConfig) -> Samples:
    if generator.random() >= config.overdrive_share:
        return samples
    limit = float(np.abs(samples).max()) * generator.uniform(0.2, 0.8)
    return np.asarray(np.clip(samples, -limit, limit), dtype=np.float32)


def _at_speed(samples: Samples, factor: float) -> Samples:
    """Linear interpolation: its images lie far below speech, and a little treble is lost, as on any tape."""
    places = np.arange(0, len(samples) - 1, factor)
    return np.asarray(np.interp(places, np.arange(len(samples)), samples), dtype=np.float32)


def _shifted(samples: Samples, generator: Generator, config: HearingConfig) -> Samples:
    """Each end moves on its own: further out, or a little into the clip."""
    most = config.shift_s * SAMPLE_RATE_HZ
    before, behind = generator.uniform(-most / 5, most, size=2).astype(np.int64)
    kept = samples[max(0, -before) : len(samples) - max(0, -behind)]
    if len(kept) < len(samples) // 2:
        return samples
    return np.pad(kept, (max(0, before), max(0, behind)))


def _reverberated(power_TF: Samples, generator: Generator, config: HearingConfig) -> Samples:
    """Power that decays by 60 dB in 0.1 to 0.6 s: what a room adds, on average."""
    if generator.random() >= config.reverb_share:
        return power_TF
    frames = generator.uniform(0.1, 0.6) * SAMPLE_RATE_HZ / HOP
    decay, wet = 10 ** (-6 / frames), generator.uniform(0.05, 0.5)
    tail_TF = lfilter([0.0, wet * (1 - decay)], [1.0, -decay], power_TF, axis=0)
    return np.asarray(power_TF + tail_TF, dtype=np.float32)


def _equalizer(num_mels: int, generator: Generator, config: HearingConfig) -> Samples:
    """Gain float32 (F): a few slow cosines over the bands, in decibels."""
    waves = np.arange(1, _EQUALIZER_WAVES + 1)
    band_F = np.arange(num_mels) / num_mels
    weights = generator.standard_normal(len(waves)) * config.equalizer_db / np.sqrt(waves)
    level_F = weights @ np.cos(np.pi * (waves[:, None] * band_F + generator.random((len(waves), 1))))
    return np.asarray(10 ** (level_F / 10), dtype=np.float32)


def _noisy(power_TF: Samples, generator: Generator, config: HearingConfig) -> Samples:
    """Noise of a random colour whose power in a cell scatters as that of a few random frequencies does."""
    if generator.random() >= config.noise_share:
        return power_TF
    snr = 10 ** (generator.uniform(config.min_snr_db, max(config.min_snr_db, config.max_snr_db)) / 10)
    num_mels = power_TF.shape[1]
    colour_F = ((1 + np.arange(num_mels)) / num_mels) ** generator.uniform(*_NOISE_SLOPES)
    scatter_TF = generator.standard_gamma(2.0, size=power_TF.shape, dtype=np.float32) / 2
    speech = float(power_TF.mean()) + _QUIET
    return np.asarray(power_TF + scatter_TF * (colour_F * (speech / snr / colour_F.mean())), dtype=np.float32)


def _masked(mel_TF: Samples, generator: Generator, config: HearingConfig) -> Samples:
    """Two bands and two times are set to the mean: nothing is known of them."""
    num_frames, num_mels = mel_TF.shape
    mean = mel_TF.mean()
    masked = mel_TF.copy()
    for _ in range(2):
        width = int(generator.integers(int(config.band_mask_share * num_mels) + 1))
        first = int(generator.integers(num_mels - width + 1))
        masked[:, first : first + width] = mean
        width = int(generator.integers(int(config.time_mask_share * num_frames) + 1))
        first = int(generator.integers(num_frames - width + 1))
        masked[first : first + width] = mean
    return masked
