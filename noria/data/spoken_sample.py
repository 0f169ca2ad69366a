"""Sample recordings: English digits and commands, said by eSpeak NG's voices, each with its own microphone and noise.

Everything is drawn from fixed seeds. Some takes are spoilt as recordings are: clipped, silent, cut off in
transfer, in stereo with long pauses, copied, named wrongly; so the quality gate has something to refuse.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import lfilter, resample_poly

from noria.data.audio import encode_wav
from noria.data.espeak import Espeak, Voice
from noria.data.mel import Samples

WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
)
_ACCENTS = ("en", "en-US", "en-GB-scotland", "en-GB-x-rp", "en-029", "en-US-nyc")
_VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "Alex", "Alicia", "Andrea"),
    *("Andy", "Annie", "Denis", "Diogo", "Gene", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike"),
    *("Nguyen", "Reed", "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david"),
    *("ed", "edward", "grandma", "grandpa", "ian", "john", "linda", "max", "michel", "miguel", "paul", "quincy"),
    *("rob", "robert", "steph", "travis", "victor", "zac"),
)
_TAKES = 2
_RATE_HZ = 16_000
_SPOILT = 40  # one take in so many, of each kind
_KINDS = ("clipped", "silent", "truncated", "text", "empty", "stereo", "copy")


def write_spoken_sample(directory: Path, *, takes: int = _TAKES, variants: tuple[str, ...] = _VARIANTS) -> None:
    """Write `WORD_SPEAKER_TAKE.wav`: every word by every speaker, `takes` times.

    Raises
    ------
    SourceError
        When eSpeak NG is not installed.
    """
    engine = Espeak()
    directory.mkdir(parents=True, exist_ok=True)
    for number, variant in enumerate(variants):
        generator = np.random.default_rng((7, number))
        accent = _ACCENTS[number % len(_ACCENTS)]
        room = _Room(generator)
        for word in WORDS:
            for take in range(takes):
                voice = Voice(
                    f"{accent}+{variant}",
                    words_per_minute=int(generator.integers(120, 230)),
                    pitch=int(generator.integers(30, 75)),
                    pitch_range=int(generator.integers(20, 80)),
                )
                spoken = resample_poly(engine.say(word, voice), 320, 441).astype(np.float32)
                path = directory / f"{word}_{variant.lower()}_{take}.wav"
                _write(path, room.record(spoken), generator)


class _Room:
    """A microphone's tilt and a level of noise, the same for all takes of a speaker."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._tilt = generator.uniform(-0.6, 0.4)
        self._colour = generator.uniform(0, 0.9)
        self._snr_db = generator.uniform(15, 40)

    def record(self, spoken: Samples) -> Samples:
        """The word between two short pauses, at a random distance, with noise."""
        generator = self._generator
        pauses = generator.uniform(0.02, 0.25, size=2) * _RATE_HZ
        clip = lfilter([1.0, self._tilt], [1.0], np.pad(spoken, (int(pauses[0]), int(pauses[1]))))
        noise = lfilter([1.0], [1.0, -self._colour], generator.standard_normal(len(clip)))
        noise *= np.sqrt((clip**2).mean()) / noise.std() * 10 ** (-self._snr_db / 20)
        clip = clip + noise
        return np.asarray(clip / np.abs(clip).max() * generator.uniform(0.05, 0.9), dtype=np.float32)


def _write(path: Path, clip: Samples, generator: np.random.Generator) -> None:
    """The take, and sometimes what went wrong with another one."""
    path.write_bytes(encode_wav(clip, sample_rate_hz=_RATE_HZ))
    draw = int(generator.integers(_SPOILT * len(_KINDS)))
    if draw >= len(_KINDS):
        return
    word, speaker, take = path.stem.rsplit("_", 2)
    spoilt = path.with_name(f"{word}_{speaker}_{int(take) + 10}.wav")
    kind = _KINDS[draw]
    if kind in ("clipped", "silent"):
        changed = np.clip(clip * 50, -1, 1) if kind == "clipped" else clip * np.float32(1e-4)
        spoilt.write_bytes(encode_wav(changed, sample_rate_hz=_RATE_HZ))
    elif kind == "stereo":
        _write_stereo(spoilt, clip)
    else:
        whole = path.read_bytes()
        texts = {"truncated": whole[: len(whole) // 2], "text": b"to be recorded\n", "empty": b"", "copy": whole}
        spoilt.write_bytes(texts[kind])


def _write_stereo(path: Path, clip: Samples) -> None:
    """Two channels at 44.1 kHz between pauses of two seconds."""
    import wave

    long = resample_poly(np.pad(clip, 2 * _RATE_HZ), 441, 160)
    pcm = np.round(np.clip(long, -1, 0.999) * 32_768).astype("<i2")
    with path.open("wb") as opened, wave.open(opened, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(np.stack([pcm, pcm], axis=1).tobytes())
