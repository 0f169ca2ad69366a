"""What a model hears of a recording: log-mel frames, by one formula in training, evaluation and serving.

A frame every 10 ms: 25 ms of samples under a Hann window, the power of a Fourier transform of 512 points,
summed by triangular filters that are evenly spaced in mel, mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy
1987, "Speech Communication"; Davis & Mermelstein 1980, doi:10.1109/TASSP.1980.1163420, for the filters), in
decibels below the loudest cell, of which a range is kept. Everything is deterministic numpy in float32.

Shapes: S samples, T frames, K frequencies of the transform, F mel bands.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from noria.data.audio import Sound

Samples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
HOP, WINDOW, TRANSFORM = 160, 400, 512
EDGE_SAMPLES = 960
"""Silence around every clip, 60 ms: a clip of a fifth of a second still has frames for its letters."""

_LOWEST_HZ, _HIGHEST_HZ = 20.0, 7_600.0
_FINEST_RATIO = 1_000  # of sample rates: within 1e-6 of the true one, and filters stay short
_BLOCK = 320  # 20 ms
_SPEECH_BELOW_PEAK_DB = 40.0
_MARGIN_S = 0.1
_LEVEL = 0.1
_QUIETEST = 1e-10


def prepare(sound: Sound) -> Samples:
    """A recording as the model wants it: 16 kHz, without outer silence, at one loudness; float32 (S)."""
    samples = trim(resample(sound.samples, sample_rate_hz=sound.sample_rate_hz))
    return samples * np.float32(_LEVEL / max(_loudest_rms(samples), 1e-6))


def resample(samples: Samples, *, sample_rate_hz: int) -> Samples:
    """To 16 kHz by a polyphase filter whose band ends at the lower half rate: no aliases, no images."""
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return samples
    from scipy.signal import resample_poly  # half a second to import: where rates agree it is not needed

    ratio = Fraction(SAMPLE_RATE_HZ, sample_rate_hz).limit_denominator(_FINEST_RATIO)
    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator), dtype=np.float32)


def outer_silence(samples: Samples, *, sample_rate_hz: int) -> tuple[int, int]:
    """Samples before the first and behind the last sound: blocks of 20 ms, 40 dB below the loudest and more."""
    block = max(1, sample_rate_hz * _BLOCK // SAMPLE_RATE_HZ)
    level = _block_rms(samples, block)
    loud = np.flatnonzero(level > level.max() * 10 ** (-_SPEECH_BELOW_PEAK_DB / 20))
    if not len(loud):  # nothing but zeros
        return len(samples), 0
    return int(loud[0]) * block, max(0, len(samples) - (int(loud[-1]) + 1) * block)


def trim(samples: Samples) -> Samples:
    """Without outer silence but for a tenth of a second; 16 kHz."""
    before, behind = outer_silence(samples, sample_rate_hz=SAMPLE_RATE_HZ)
    margin = int(_MARGIN_S * SAMPLE_RATE_HZ)
    if before == len(samples):
        return samples[: 2 * margin]
    return samples[max(0, before - margin) : len(samples) - max(0, behind - margin)]


def loudness_db(samples: Samples, *, sample_rate_hz: int) -> float:
    """Level of the loudest tenth of a second against full scale; -120 is digital silence."""
    rms = float(_block_rms(samples, max(1, sample_rate_hz // 10)).max())
    return max(-120.0, 20 * float(np.log10(max(rms, 1e-6))))


def clipped_share(samples: Samples) -> float:
    """Share of samples in runs of three and more at one limit, which is the peak of a recording close to full scale."""
    peak = float(np.abs(samples).max())
    if peak < 0.5:
        return 0.0
    at_limit = np.abs(samples) >= peak * 0.999
    three = at_limit[:-2] & at_limit[1:-1] & at_limit[2:] if len(samples) > 2 else np.zeros(0, bool)
    run = np.zeros(len(samples), bool)
    for shift in range(3):
        run[shift : shift + len(three)] |= three
    return float(run.mean())


def power(samples: Samples, *, hop: float = HOP) -> Samples:
    """Power spectrum of every frame, float32 (T, K); another `hop` is another tempo at the same pitch."""
    padded = np.pad(samples, EDGE_SAMPLES + WINDOW // 2)
    num_frames = num_frames_of(len(samples), hop=hop)
    starts = (np.arange(num_frames) * hop).astype(np.int64)
    frames_TW = padded[starts[:, None] + np.arange(WINDOW)] * _hann()
    spectrum_TK = np.fft.rfft(frames_TW, n=TRANSFORM)
    return np.asarray(spectrum_TK.real**2 + spectrum_TK.imag**2, dtype=np.float32)


def num_frames_of(num_samples: int, *, hop: float = HOP) -> int:
    """Frames of a clip and its edges."""
    return 1 + int((num_samples + 2 * EDGE_SAMPLES) / hop)


def log_mel(power_TF: Samples, *, dynamic_range_db: float) -> Samples:
    """Mel power to decibels below the loudest cell, from -1 at the end of the range to 1; float32 (T, F)."""
    level_TF = 10 * np.log10(np.maximum(power_TF, _QUIETEST))
    level_TF = np.maximum(level_TF - level_TF.max(initial=-100.0), -dynamic_range_db)
    return np.asarray(1 + 2 * level_TF / dynamic_range_db, dtype=np.float32)


def features(samples: Samples, *, num_mels: int, dynamic_range_db: float) -> Samples:
    """Log-mel frames of prepared samples, float32 (T, F)."""
    return log_mel(mel_power(samples, num_mels=num_mels), dynamic_range_db=dynamic_range_db)


def mel_power(samples: Samples, *, num_mels: int, hop: float = HOP, warp: float = 1.0) -> Samples:
    """Power in the mel bands of every frame, float32 (T, F).

    By einsum, not `@`: for so little, BLAS wakes a thread a core and takes ten times as long where training
    has the cores; and its sums are rounded by their number.
    """
    filtered = np.einsum("tk,kf->tf", power(samples, hop=hop), mel_filters(num_mels, warp))
    return np.asarray(filtered, dtype=np.float32)


@lru_cache(maxsize=128)
def mel_filters(num_mels: int, warp: float = 1.0) -> Samples:
    """Triangles over the frequencies, float32 (K, F); `warp` above 1 moves what is heard down, as a longer tract does.

    The warp is linear up to 4.8 kHz / max(warp, 1), then as needed to end where it began (Jaitly & Hinton 2013,
    "Vocal Tract Length Perturbation").
    """
    mel = np.linspace(_to_mel(_LOWEST_HZ), _to_mel(_HIGHEST_HZ), num_mels + 2)
    edges_hz = _warped(700 * (10 ** (mel / 2595) - 1), warp)
    frequency_K = np.arange(TRANSFORM // 2 + 1) * SAMPLE_RATE_HZ / TRANSFORM
    left, centre, right = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising_KF = (frequency_K[:, None] - left) / (centre - left)
    falling_KF = (right - frequency_K[:, None]) / (right - centre)
    triangles_KF = np.maximum(0, np.minimum(rising_KF, falling_KF))
    narrow = triangles_KF.sum(0) < 1  # between two frequencies of the transform: the nearest one
    triangles_KF[np.abs(frequency_K[:, None] - centre).argmin(0)[narrow], narrow] = 1
    return np.asarray(triangles_KF / triangles_KF.sum(0), dtype=np.float32)


def _warped(frequency_hz: NDArray[np.float64], warp: float) -> NDArray[np.float64]:
    half, bend = SAMPLE_RATE_HZ / 2, 4_800 * min(warp, 1) / warp
    upper = half - (half - bend * warp) / (half - bend) * (half - frequency_hz)
    return np.where(frequency_hz <= bend, frequency_hz * warp, upper)


def _to_mel(frequency_hz: float) -> float:
    return float(2595 * np.log10(1 + frequency_hz / 700))


@lru_cache(maxsize=1)
def _hann() -> Samples:
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)


def _block_rms(samples: Samples, block: int) -> NDArray[np.float64]:
    """Root mean square of blocks, the last of which can be shorter."""
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % block))
    counts = np.minimum(block, len(samples) - block * np.arange(len(padded) // block))
    return np.asarray(np.sqrt((padded.reshape(-1, block) ** 2).sum(1) / counts))


def _loudest_rms(samples: Samples) -> float:
    """Of the louder half of the blocks: pauses don't count."""
    level = np.sort(_block_rms(samples, _BLOCK))
    return float(np.sqrt((level[len(level) // 2 :] ** 2).mean()))
