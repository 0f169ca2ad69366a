"""Recordings and their transcripts as data: measured for the gate, repaired, compared, sliced.

Everything here is a pure function of one row or one batch. What `measure` calls a fault is what
`repair` removes or refuses, so that repaired rows pass the gate's row rules.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from noria.config import AugmentConfig, CleanAudioConfig, CleanConfig
from noria.data.audio import BadAudio, Sound, decode, encode_wav
from noria.data.mel import SAMPLE_RATE_HZ, clipped_share, loudness_db, outer_silence, resample, trim
from noria.scenarios.base import Repaired

MEASURED = (
    pa.field("is_audio", pa.bool_()),
    pa.field("duration_s", pa.float64()),
    pa.field("sample_rate_hz", pa.int64()),
    pa.field("num_channels", pa.int64()),
    pa.field("clipped_share", pa.float64()),
    pa.field("loudness_db", pa.float64()),
    pa.field("outer_silence_s", pa.float64()),
    pa.field("num_chars", pa.int64()),
    pa.field("is_plain_text", pa.bool_()),
)
"""The columns that `measure` adds, in order; of what is no recording, numbers are 0 and the loudness -120."""

_KEPT_MARKS = "'’-"
_LENGTHS_S = (0.5, 1.5, 5.0)


def measure(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch and the columns of `MEASURED` behind its own; what is no recording is said to be none."""
    rows = [
        {**_measured(payload), **_measured_text(text)}
        for payload, text in zip(batch.column("audio").to_pylist(), batch.column("text").to_pylist(), strict=True)
    ]
    for field in MEASURED:
        batch = batch.append_column(field, pa.array([row[field.name] for row in rows], field.type))
    return batch


def repair(values: Mapping[str, object], config: CleanConfig) -> Repaired:
    """The row with its transcript in plain text, and its recording mended, or the rule that it breaks all the same.

    A recording of several channels, or with long silence around it, is written anew: 16 kHz, one channel, trimmed.

    Rules: those of `noria.data.audio.decode`, `missing_audio`, `missing_text`, `transcript_too_long`, `too_short`,
    `too_long`, `sample_rate`, `clipped`, `silent`.
    """
    payload, said = values.get("audio"), values.get("text")
    if not isinstance(payload, bytes):
        return Repaired(None, rule="missing_audio", reason="`audio` is missing")
    text = normalize(said) if isinstance(said, str) else ""
    if not text:
        return Repaired(None, rule="missing_text", reason=f"`text` has nothing to read: {said!r}")
    if len(text) > config.audio.max_chars:
        reason = f"{len(text):,} characters, at most {config.audio.max_chars:,} expected"
        return Repaired(None, rule="transcript_too_long", reason=reason)
    try:
        sound = decode(payload)
        mended = _mended(sound, config.audio)
    except BadAudio as bad:
        return Repaired(None, rule=bad.rule, reason=bad.reason)
    repairs = tuple(name for name, done in (("recording", mended is not None), ("transcript", text != said)) if done)
    return Repaired(
        {
            **values,
            "audio": payload if mended is None else mended,
            "text": text,
            "speaker": values.get("speaker") or "",
        },
        repairs=repairs,
    )


def normalize(text: str) -> str:
    """A transcript in plain text: NFKC, lower case, letters and digits and marks inside words, single spaces."""
    lowered = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    kept = "".join(c if c.isalnum() or c in _KEPT_MARKS or unicodedata.category(c)[0] == "M" else " " for c in lowered)
    return " ".join(word for part in kept.split() if (word := part.strip("'-")))


def duplicate_key(values: Mapping[str, object]) -> str:
    """A digest of the samples: one recording in two files of any lossless kind is the same.

    What is no recording is told apart by its transcript too: two empty files contradict nobody.
    """
    payload = values["audio"]
    if not isinstance(payload, bytes):
        return ""
    try:
        sound = decode(payload)
    except BadAudio:
        return hashlib.blake2b(f"{values['text']}\0".encode("utf-8", "surrogatepass") + payload).hexdigest()
    pcm = np.round(sound.samples * 32_768).astype("<i4").tobytes()
    return hashlib.blake2b(sound.sample_rate_hz.to_bytes(4, "big") + pcm, digest_size=16).hexdigest()


def augment(
    values: Mapping[str, object], config: AugmentConfig, generator: np.random.Generator
) -> Mapping[str, object] | None:
    """Nothing: a clip is changed anew each time that training meets it (noria/recipes/hearing.py), never stored."""
    return None


def slices(values: Mapping[str, object]) -> Mapping[str, bool]:
    """Groups of validation rows that a person would ask about: the length of the clip, several words, the speaker."""
    duration_s = _duration_of(values)
    short, medium, long = _LENGTHS_S
    speaker = str(values.get("speaker") or "")
    return {
        f"up to {short:g} s": duration_s <= short,
        f"{short:g} to {medium:g} s": short < duration_s <= medium,
        f"{medium:g} to {long:g} s": medium < duration_s <= long,
        f"over {long:g} s": duration_s > long,
        "several words": len(str(values["text"] or "").split()) > 1,
        **({f"speaker {speaker}": True} if speaker else {}),
    }


def _duration_of(values: Mapping[str, object]) -> float:
    measured = values.get("duration_s")
    if isinstance(measured, float):
        return measured
    return _measured(values["audio"])["duration_s"]


def _measured(payload: object) -> dict[str, float]:
    nothing = {field.name: 0.0 for field in MEASURED[:7]} | {"is_audio": False, "loudness_db": -120.0}
    if not isinstance(payload, bytes):
        return nothing
    try:
        sound = decode(payload)
    except BadAudio:
        return nothing
    rate = sound.sample_rate_hz
    silence = max(outer_silence(sound.samples, sample_rate_hz=rate))
    return {
        "is_audio": True,
        "duration_s": sound.duration_s,
        "sample_rate_hz": rate,
        "num_channels": sound.num_channels,
        "clipped_share": clipped_share(sound.samples),
        "loudness_db": loudness_db(sound.samples, sample_rate_hz=rate),
        "outer_silence_s": silence / rate,
    }


def _measured_text(text: object) -> dict[str, float]:
    plain = normalize(text) if isinstance(text, str) else ""
    return {"num_chars": len(plain), "is_plain_text": text is None or plain == text}


def _mended(sound: Sound, config: CleanAudioConfig) -> bytes | None:
    """The recording written anew where it has to be; None where it is right as it is.

    Raises
    ------
    BadAudio
        Where it can't be mended.
    """
    _refuse(sound, config)
    silence = max(outer_silence(sound.samples, sample_rate_hz=sound.sample_rate_hz))
    if sound.num_channels == 1 and silence <= config.max_outer_silence_s * sound.sample_rate_hz:
        _check_duration(sound, config)
        return None
    samples = trim(resample(sound.samples, sample_rate_hz=sound.sample_rate_hz))
    samples = samples / max(1.0, float(np.abs(samples).max()))
    _check_duration(Sound(samples, SAMPLE_RATE_HZ), config)
    return encode_wav(samples, sample_rate_hz=SAMPLE_RATE_HZ)


def _refuse(sound: Sound, config: CleanAudioConfig) -> None:
    if sound.sample_rate_hz < config.min_sample_rate_hz:
        raise BadAudio("sample_rate", f"{sound.sample_rate_hz:,} Hz, at least {config.min_sample_rate_hz:,} expected")
    if (share := clipped_share(sound.samples)) > config.max_clipped_share:
        raise BadAudio("clipped", f"{share:.0%} of the samples are clipped, at most {config.max_clipped_share:.0%} may")
    level = loudness_db(sound.samples, sample_rate_hz=sound.sample_rate_hz)
    if level < config.min_loudness_db:
        raise BadAudio("silent", f"{level:.0f} dB at its loudest, at least {config.min_loudness_db:g} dB expected")


def _check_duration(sound: Sound, config: CleanAudioConfig) -> None:
    if sound.duration_s < config.min_duration_s:
        raise BadAudio("too_short", f"{sound.duration_s:.3f} s, at least {config.min_duration_s:g} s expected")
    if sound.duration_s > config.max_duration_s:
        raise BadAudio("too_long", f"{sound.duration_s:.1f} s, at most {config.max_duration_s:g} s expected")
