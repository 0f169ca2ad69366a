"""Clips of two tones a letter, whose files say the word, and what the gate refuses among them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from noria.data.audio import encode_wav

SETTINGS: Mapping[str, Mapping[str, object]] = {
    "model": {"layers": 1, "dim": 32, "heads": 2, "feed_forward_dim": 64, "audio": {"num_mels": 24}, "dropout": 0.0},
    "train": {"epochs": 15, "threads": 1, "precision": "fp32", "lr": 0.005, "muon_lr": 0.03, "batch_tokens": 1024},
    "evaluate": {"resamples": 200, "min_slice_rows": 5},
    "optimize": {"latency_repeats": 10, "max_quality_drop": 0.2, "max_slice_drop": 1.0},
}
RATE_HZ = 8_000
_TONES = {"a": (400, 1_200), "b": (700, 2_400), "c": (1_000, 3_000), "d": (300, 1_900)}


def clip(word: str, generator: np.random.Generator) -> np.ndarray:
    """A word at a pitch, a tempo and a level of its own, with a little noise; float32 at `RATE_HZ`."""
    parts = []
    for letter in word:
        time_s = np.arange(int(generator.uniform(0.08, 0.11) * RATE_HZ)) / RATE_HZ
        pitch = generator.uniform(0.95, 1.05)
        tone = sum(np.sin(2 * np.pi * hz * pitch * time_s) for hz in _TONES[letter])
        parts.append(tone * np.hanning(len(tone)))
    sound = np.concatenate(parts)
    sound = sound + 0.02 * generator.standard_normal(len(sound))
    return (sound / np.abs(sound).max() * generator.uniform(0.2, 0.9)).astype(np.float32)


def write_source(path: Path, *, dirty: bool) -> Path:
    """A source below `path`; a dirty one fails the gate, and passes it once it is cleaned."""
    folder = path / "clips"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(300 if dirty else 150):
        word = "".join(generator.choice(list(_TONES), size=2))
        samples = clip(word, generator)
        (folder / f"{word}_s{number % 7}_{number}.wav").write_bytes(encode_wav(samples, sample_rate_hz=RATE_HZ))
    if dirty:
        _spoil(folder, generator)
    return folder


def _spoil(folder: Path, generator: np.random.Generator) -> None:
    whole = encode_wav(clip("ab", generator), sample_rate_hz=RATE_HZ)
    for number in range(12):
        (folder / f"ab_s0_copy{number}.wav").write_bytes(whole)
    (folder / "cd_s1_copy.wav").write_bytes(whole)  # one recording, two transcripts
    (folder / "ac_s1_cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "ac_s1_empty.wav").write_bytes(b"")
    (folder / "ac_s1_text.wav").write_bytes(b"to be recorded")
    (folder / "noname.wav").write_bytes(whole)
    (folder / "ad_s2_1hz.wav").write_bytes(encode_wav(clip("ad", generator), sample_rate_hz=1))
    (folder / "ad_s2_10mhz.wav").write_bytes(encode_wav(clip("ad", generator), sample_rate_hz=10_000_000))
    silent = np.zeros(4_000, np.float32)
    (folder / "ad_s3_silent.wav").write_bytes(encode_wav(silent, sample_rate_hz=RATE_HZ))
    loud = np.clip(clip("bb", generator) * 30, -1, 1)
    (folder / "bb_s3_loud.wav").write_bytes(encode_wav(loud, sample_rate_hz=RATE_HZ))
    paused = np.pad(clip("BC".lower(), generator), 2 * RATE_HZ)
    (folder / "BC_s4_paused.wav").write_bytes(encode_wav(paused, sample_rate_hz=RATE_HZ))
