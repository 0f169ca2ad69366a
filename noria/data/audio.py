"""Bytes of a recording to samples: what it is by its header, limits before anything is decoded, then the samples.

WAV (PCM of 8 to 32 bits, float of 32 and 64) is read here with numpy. FLAC, Ogg, MP3 and the rarer kinds of
WAV need the package `soundfile`. Shapes: S samples, C channels.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 10_000_000
MAX_DURATION_S = 60.0
SAMPLE_RATES_HZ = (2_000, 192_000)
MAX_CHANNELS = 8
"""Hard limits: what lies outside is never decoded, whatever the configuration says."""

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3")
"""Endings of files that are taken for recordings."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000)  # what programs write that don't know the size yet
_LARGEST = 1e9  # full scale is 1, or 32,768 in some files of floats
_FLOATS = {32: "<f4", 64: "<f8"}
_AT_ONCE = 65_536
_NO_SAMPLES = np.zeros((0, 1), np.float32)


class BadAudio(ValueError):
    """Why bytes are no recording that can be used: a short name of the rule, and a sentence."""

    def __init__(self, rule: str, reason: str) -> None:
        self.rule = rule
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Header:
    """What a recording says of itself; `num_samples` is per channel."""

    sample_rate_hz: int
    num_channels: int
    num_samples: int

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate_hz if self.sample_rate_hz else 0.0


@dataclass(frozen=True)
class Sound:
    """Samples of one channel, float32 (S), full scale at 1."""

    samples: NDArray[np.float32]
    sample_rate_hz: int
    num_channels: int = 1

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True)
class _Wav:
    """Where the samples of a WAV file are, and how they are written."""

    kind: int
    bits: int
    header: Header
    data: memoryview


def decode(payload: bytes) -> Sound:
    """The recording as one channel: the mean of its channels.

    Raises
    ------
    BadAudio
        For what is no recording, is damaged, or is outside the limits; rules `empty`, `too_many_bytes`,
        `not_audio`, `truncated`, `sample_rate`, `channels`, `too_long`, `not_finite`.
    """
    if not payload:
        raise BadAudio("empty", "the file has no bytes")
    if len(payload) > MAX_BYTES:
        raise BadAudio("too_many_bytes", f"{len(payload):,} bytes, at most {MAX_BYTES:,} are decoded")
    wav = _parse_wav(payload) if payload[:4] == b"RIFF" and payload[8:12] == b"WAVE" else None
    if wav is not None and _is_simple(wav):
        _check(wav.header)
        samples_SC, header = _wav_samples(wav), wav.header
    else:
        samples_SC, header = _by_soundfile(payload)
    if not len(samples_SC):
        raise BadAudio("empty", "the recording has no samples")
    samples = samples_SC.mean(axis=1, dtype=np.float32)
    if not np.abs(samples).max() <= _LARGEST:
        raise BadAudio("not_finite", "samples that are no numbers, or beyond all measure")
    return Sound(samples, header.sample_rate_hz, header.num_channels)


def encode_wav(samples: NDArray[np.float32], *, sample_rate_hz: int) -> bytes:
    """One channel as WAV, 16-bit PCM; what is beyond full scale is clipped."""
    pcm = np.round(np.clip(samples, -1.0, 32_767 / 32_768) * 32_768).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", _PCM, 1, sample_rate_hz, 2 * sample_rate_hz, 2, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(pcm)) + pcm
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _check(header: Header) -> None:
    low, high = SAMPLE_RATES_HZ
    if not low <= header.sample_rate_hz <= high:
        raise BadAudio("sample_rate", f"{header.sample_rate_hz:,} Hz, from {low:,} to {high:,} are decoded")
    if not 1 <= header.num_channels <= MAX_CHANNELS:
        raise BadAudio("channels", f"{header.num_channels} channels, from 1 to {MAX_CHANNELS} are decoded")
    if header.duration_s > MAX_DURATION_S:
        raise BadAudio("too_long", f"{header.duration_s:,.1f} s, at most {MAX_DURATION_S:g} s are decoded")


def _parse_wav(payload: bytes) -> _Wav:
    """Find the chunks `fmt ` and `data` (Microsoft, "Multimedia Programming Interface and Data Specifications")."""
    view, place = memoryview(payload), 12
    form: tuple[int, int, int, int] | None = None
    while place + 8 <= len(view):
        name, size = bytes(view[place : place + 4]), struct.unpack_from("<I", view, place + 4)[0]
        body = view[place + 8 : place + 8 + size]
        if name == b"fmt ":
            form = _form(body)
        elif name == b"data":
            if form is None:
                raise BadAudio("not_audio", "a WAV file whose samples come before their format")
            if size in _UNKNOWN_SIZES:
                body = view[place + 8 :]
            elif len(body) < size:
                raise BadAudio("truncated", f"{size:,} bytes of samples announced, and {len(body):,} there")
            kind, channels, rate, bits = form
            width = max(1, channels * (bits // 8))
            return _Wav(kind, bits, Header(rate, channels, len(body) // width), body[: len(body) // width * width])
        place += 8 + size + size % 2
    raise BadAudio("truncated", "a WAV file that ends before its samples")


def _form(body: memoryview) -> tuple[int, int, int, int]:
    """Kind, channels, sample rate, bits; an extensible format names its kind at the end."""
    if len(body) < 16:
        raise BadAudio("truncated", "a WAV file that ends in its format")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if kind == _EXTENSIBLE and len(body) >= 26:
        (kind,) = struct.unpack_from("<H", body, 24)
    return kind, channels, rate, bits


def _is_simple(wav: _Wav) -> bool:
    return (wav.kind == _PCM and wav.bits in (8, 16, 24, 32)) or (wav.kind == _FLOAT and wav.bits in _FLOATS)


def _wav_samples(wav: _Wav) -> NDArray[np.float32]:
    """Float32 (S, C)."""
    if wav.kind == _FLOAT:
        flat = np.frombuffer(wav.data, _FLOATS[wav.bits])
        with np.errstate(over="ignore"):  # what a float32 can't hold is found out as infinite
            flat = flat.astype(np.float32)
    elif wav.bits == 8:  # the one unsigned kind
        flat = (np.frombuffer(wav.data, np.uint8).astype(np.float32) - 128) / 128
    elif wav.bits == 24:
        bytes_N3 = np.frombuffer(wav.data, np.uint8).reshape(-1, 3)
        wide_N4 = np.zeros((len(bytes_N3), 4), np.uint8)
        wide_N4[:, 1:] = bytes_N3
        flat = wide_N4.view("<i4")[:, 0].astype(np.float32) / 2**31
    else:
        flat = np.frombuffer(wav.data, f"<i{wav.bits // 8}").astype(np.float32) / np.float32(2 ** (wav.bits - 1))
    return np.asarray(flat.reshape(-1, wav.header.num_channels), dtype=np.float32)


def _by_soundfile(payload: bytes) -> tuple[NDArray[np.float32], Header]:
    """The mean of the channels, float32 (S, 1), of whatever libsndfile reads; its header is looked at first."""
    if payload[:4] not in (b"RIFF", b"fLaC", b"OggS") and payload[:3] != b"ID3" and payload[:1] != b"\xff":
        raise BadAudio("not_audio", f"no WAV, FLAC, Ogg or MP3: it begins with {payload[:12]!r}")
    try:
        import soundfile
    except (ImportError, OSError):
        raise BadAudio(
            "not_audio", "this kind of recording needs a package: pip install --no-deps soundfile cffi"
        ) from None
    try:
        with soundfile.SoundFile(io.BytesIO(payload)) as file:
            header = Header(file.samplerate, file.channels, file.frames)
            _check(header)
            most = int(MAX_DURATION_S * header.sample_rate_hz) + 1
            blocks = file.blocks(_AT_ONCE, frames=most, dtype="float32", always_2d=True)
            # Block by block: silence in eight channels is a hundred kilobytes of FLAC and half a gigabyte of samples.
            samples_S1 = np.concatenate([_NO_SAMPLES, *(block.mean(axis=1, keepdims=True) for block in blocks)])
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadAudio):
            raise
        raise BadAudio("not_audio", f"it can't be decoded: {error}") from None
    if len(samples_S1) < min(header.num_samples, most):
        raise BadAudio("truncated", f"{header.num_samples:,} samples announced, and {len(samples_S1):,} there")
    _check(Header(header.sample_rate_hz, header.num_channels, len(samples_S1)))
    return samples_S1, header
