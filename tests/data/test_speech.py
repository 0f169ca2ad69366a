"""Rows of recordings: what is repaired passes the gate's rules, what can't be is refused with a reason."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from noria.config import CleanConfig, Config
from noria.data.audio import decode, encode_wav
from noria.data.speech import duplicate_key, measure, normalize, repair, slices
from noria.data.speech_encoder import fit_speech_encoder, load_speech_encoder
from noria.errors import TrainingError
from noria.scenarios import load_scenario

RATE_HZ = 8_000
SCENARIO = load_scenario("speech-recognition")
SPEECH = (0.5 * np.sin(np.arange(4_000) / 5) * np.hanning(4_000)).astype(np.float32)


def row(samples: np.ndarray = SPEECH, *, rate: int = RATE_HZ, text: str | None = "seven", **more: object) -> dict:
    return {"audio": encode_wav(samples, sample_rate_hz=rate), "text": text, "speaker": "ann", **more}


def measured(values: dict) -> dict:
    return measure(pa.RecordBatch.from_pylist([values], schema=SCENARIO.schema)).to_pylist()[0]


def stereo() -> bytes:
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    soundfile.write(file, np.stack([SPEECH, SPEECH], axis=1), RATE_HZ, format="WAV")
    return file.getvalue()


REFUSED = {
    "missing_text": row(text=None),
    "missing_text of marks alone": row(text=" …! "),
    "transcript_too_long": row(text="a" * 401),
    "missing_audio": row() | {"audio": None},
    "not_audio": row() | {"audio": b"to be recorded"},
    "empty": row() | {"audio": b""},
    "truncated": row() | {"audio": row()["audio"][:999]},
    "sample_rate of 1 Hz": row(rate=1),
    "sample_rate of 10 MHz": row(rate=10_000_000),
    "sample_rate of a toy": row(rate=4_000),
    "too_short": row(SPEECH[1_900:2_000]),
    "too_long": row(np.tile(SPEECH, 50)),
    "silent": row(SPEECH * 1e-4),
    "clipped": row(np.clip(SPEECH * 100, -1, 1)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_mended_is_refused_with_rule_and_reason(name):
    repaired = repair(REFUSED[name], CleanConfig())
    assert repaired.values is None
    assert repaired.rule == name.split(" ")[0] and repaired.reason


@pytest.mark.parametrize(
    ("values", "repairs"),
    [
        (row(), ()),
        (row(text="Seven!"), ("transcript",)),
        (row(np.pad(SPEECH, 12_000)), ("recording",)),
        (row(speaker=None), ()),
    ],
)
def test_a_repaired_row_is_right_and_repairing_it_again_changes_nothing(values, repairs):
    repaired = repair(values, CleanConfig())
    assert repaired.values is not None and repaired.repairs == repairs
    assert repaired.values["text"] == "seven" and repaired.values["speaker"] is not None
    found = measured(dict(repaired.values))
    assert found["is_audio"] and found["is_plain_text"] and found["num_channels"] == 1
    assert 0.05 <= found["duration_s"] <= 20 and found["outer_silence_s"] <= 1
    assert repair(repaired.values, CleanConfig()).values == repaired.values


def test_channels_are_mixed_into_a_file_of_one():
    repaired = repair(row() | {"audio": stereo()}, CleanConfig())
    assert repaired.repairs == ("recording",) and decode(repaired.values["audio"]).num_channels == 1


def test_the_bounds_of_the_suite_are_those_of_the_cleaner():
    suite = Path(__file__).parents[2] / "expectations" / "speech-recognition.yaml"
    rules = {rule["column"]: rule for rule in yaml.safe_load(suite.read_text(encoding="utf-8"))["rows"]}
    audio = CleanConfig().audio
    assert rules["duration_s"]["min_value"] == audio.min_duration_s
    assert rules["duration_s"]["max_value"] == audio.max_duration_s
    assert rules["sample_rate_hz"]["min_value"] == audio.min_sample_rate_hz
    assert rules["clipped_share"]["max_value"] == audio.max_clipped_share
    assert rules["loudness_db"]["min_value"] == audio.min_loudness_db
    assert rules["outer_silence_s"]["max_value"] == audio.max_outer_silence_s
    assert rules["num_chars"]["max_value"] == audio.max_chars


def test_one_recording_in_two_kinds_of_file_is_a_duplicate_and_another_level_is_not():
    soundfile = pytest.importorskip("soundfile")
    flac = io.BytesIO()
    soundfile.write(flac, decode(row()["audio"]).samples, RATE_HZ, format="FLAC", subtype="PCM_16")
    assert duplicate_key(row() | {"audio": flac.getvalue()}) == duplicate_key(row())
    assert duplicate_key(row(SPEECH * 0.5)) != duplicate_key(row())


def test_two_empty_files_of_different_transcripts_contradict_nobody():
    assert duplicate_key(row() | {"audio": b""}) != duplicate_key(row(text="eight") | {"audio": b""})


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Seven!", "seven"),
        ("  it’s  O'Clock ", "it's o'clock"),
        ("well-known — 'quoted'", "well-known quoted"),
        ("Ｆｕｌｌ　ＷＩＤＴＨ", "full width"),
        ("ÉTÉ, naïve", "été naïve"),
        ("नमस्ते", "नमस्ते"),
        ("7", "7"),
        ("?!", ""),
    ],
)
def test_transcripts_become_plain_text(text, plain):
    assert normalize(text) == plain == normalize(plain)


def test_slices_name_the_speaker_and_the_length():
    members = {name for name, inside in slices(row()).items() if inside}
    assert members == {"speaker ann", "up to 0.5 s"}


def encoder():
    rows = [row(text="seven"), row(text="Two Five")]
    return fit_speech_encoder(rows, config=Config.model_fields["model"].default.audio)


def test_the_encoder_is_read_back_and_encodes_the_same(tmp_path):
    fitted = encoder()
    fitted.save(tmp_path)
    again = load_speech_encoder(tmp_path)
    assert again.num_letters == fitted.num_letters == len(set("seventwo five ")) + 1
    np.testing.assert_array_equal(again.encode(row())["mel"], fitted.encode(row())["mel"])


def test_targets_spell_the_transcript_and_unknown_letters_teach_nothing():
    fitted = encoder()
    known, unknown = fitted.targets([row(text="Five, two"), row(text="zoo")])
    assert known is not None and unknown is None
    assert fitted.text_of(known["letters"].tolist()) == "five two"
    assert known["samples"].dtype == np.int16


def test_collated_rows_say_how_long_they_are():
    fitted = encoder()
    rows = fitted.encode_batch([row(), row(SPEECH[:2_000])])
    batch = fitted.collate(rows)
    assert batch["mel"].shape == (2, batch["num_frames"].max(), fitted.num_mels)
    assert batch["num_frames"].tolist() == [fitted.num_tokens(each) for each in rows]
    assert not batch["mel"][1, batch["num_frames"][1] :].any()


def test_no_transcripts_are_nothing_to_learn():
    with pytest.raises(TrainingError, match="0 different characters"):
        fit_speech_encoder([row(text="!")], config=Config.model_fields["model"].default.audio)
