"""Bytes of recordings: every kind of WAV, other kinds by soundfile, and what is no recording."""

import io
import struct
import sys

import numpy as np
import pytest

from noria.data.audio import BadAudio, decode, encode_wav

RATE_HZ = 8_000
TONE = (0.5 * np.sin(np.arange(2_000) / 5)).astype(np.float32)


def wav(data: bytes, *, kind=1, channels=1, rate=RATE_HZ, bits=16, size=None, extensible=False) -> bytes:
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * channels * bits // 8, 1, bits)
    if extensible:
        form += struct.pack("<HHIHH", 22, bits, 0, kind, 0) + bytes(12)
    size = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pcm24(samples: np.ndarray) -> bytes:
    return np.round(samples * 2**23).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


KINDS = {
    "8 bits": (wav(np.round(TONE * 128 + 128).astype(np.uint8).tobytes(), bits=8), 1e-2),
    "16 bits": (wav(np.round(TONE * 2**15).astype("<i2").tobytes()), 1e-4),
    "24 bits": (wav(pcm24(TONE), bits=24), 1e-6),
    "32 bits": (wav(np.round(TONE.astype(np.float64) * 2**31).astype("<i4").tobytes(), bits=32), 1e-6),
    "float": (wav(TONE.astype("<f4").tobytes(), kind=3, bits=32), 0),
    "double": (wav(TONE.astype("<f8").tobytes(), kind=3, bits=64), 0),
    "extensible": (wav(np.round(TONE * 2**15).astype("<i2").tobytes(), extensible=True), 1e-4),
    "size unknown": (wav(np.round(TONE * 2**15).astype("<i2").tobytes(), size=0xFFFFFFFF), 1e-4),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_simple_kind_of_wav_is_read_without_soundfile(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    payload, tolerance = KINDS[name]
    sound = decode(payload)
    assert sound.sample_rate_hz == RATE_HZ
    np.testing.assert_allclose(sound.samples, TONE, atol=tolerance)


def test_channels_are_mixed_to_their_mean():
    both = np.stack([TONE, -0.5 * TONE], axis=1)
    sound = decode(wav(both.astype("<f4").tobytes(), kind=3, channels=2, bits=32))
    assert sound.num_channels == 2
    np.testing.assert_allclose(sound.samples, TONE / 4, atol=1e-6)


def test_what_is_written_is_read_back_the_same():
    np.testing.assert_allclose(decode(encode_wav(TONE, sample_rate_hz=RATE_HZ)).samples, TONE, atol=2**-15)


@pytest.mark.parametrize(
    ("format", "subtype", "tolerance"), [("FLAC", "PCM_16", 1e-4), ("OGG", "VORBIS", 0.1), ("WAV", "ULAW", 0.03)]
)
def test_other_kinds_are_read_by_soundfile(format, subtype, tolerance):
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    soundfile.write(file, TONE, RATE_HZ, format=format, subtype=subtype)
    np.testing.assert_allclose(decode(file.getvalue()).samples, TONE, atol=tolerance)


def test_without_soundfile_a_flac_file_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(BadAudio, match="pip install --no-deps soundfile"):
        decode(b"fLaC" + bytes(100))


WHOLE = KINDS["16 bits"][0]
HOSTILE = {
    "nothing": (b"", "empty"),
    "text": (b"to be recorded\n", "not_audio"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not_audio"),
    "cut in the samples": (WHOLE[:1_000], "truncated"),
    "cut in the header": (WHOLE[:30], "truncated"),
    "no samples": (wav(b"", size=0), "empty"),
    "1 Hz": (wav(bytes(4_000), rate=1), "sample_rate"),
    "0 Hz": (wav(bytes(4_000), rate=0), "sample_rate"),
    "10 MHz": (wav(bytes(4_000), rate=10_000_000), "sample_rate"),
    "no channels": (wav(bytes(4_000), channels=0), "channels"),
    "a thousand channels": (wav(bytes(4_000), channels=1_000), "channels"),
    "ten minutes": (wav(bytes(600 * RATE_HZ), bits=8), "too_long"),
    "too many bytes": (WHOLE + bytes(10_000_000), "too_many_bytes"),
    "not a number": (wav(np.full(99, np.nan, "<f4").tobytes(), kind=3, bits=32), "not_finite"),
    "infinite as float32": (wav(np.full(99, 1e300).tobytes(), kind=3, bits=64), "not_finite"),
    "samples before their format": (b"RIFF" + bytes(4) + b"WAVEdata" + struct.pack("<I", 4) + bytes(4), "not_audio"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_recording_is_refused_with_its_rule(name):
    payload, rule = HOSTILE[name]
    with pytest.raises(BadAudio) as refused:
        decode(payload)
    assert refused.value.rule == rule and refused.value.reason


def test_no_damage_to_a_file_raises_anything_else():
    generator = np.random.default_rng(0)
    seeds = [payload for payload, _ in KINDS.values()]
    try:
        import soundfile
    except ImportError:
        pass
    else:
        for format in ("FLAC", "OGG", "MP3"):
            file = io.BytesIO()
            soundfile.write(file, TONE, RATE_HZ, format=format)
            seeds.append(file.getvalue())
    for _ in range(600):
        damaged = bytearray(seeds[generator.integers(len(seeds))])
        for place in generator.integers(min(len(damaged), 200), size=generator.integers(1, 6)):
            damaged[place] = generator.integers(256)
        if generator.random() < 0.3:
            del damaged[generator.integers(len(damaged)) :]
        try:
            assert np.isfinite(decode(bytes(damaged)).samples).all()
        except BadAudio as bad:
            assert bad.reason
