"""A recording as a request: base64 in JSON, a file on the command line, a folder at `noria init`."""

import base64

import numpy as np
import pytest
import tiny_speech_recognition as tiny
from pydantic import ValidationError

from noria.cli import main
from noria.cli.predict import _request
from noria.data.audio import decode, encode_wav
from noria.errors import SourceError
from noria.scenarios import load_scenario
from noria.workspace import Workspace

SCENARIO = load_scenario("speech-recognition")
WAV = encode_wav(tiny.clip("ab", np.random.default_rng(0)), sample_rate_hz=tiny.RATE_HZ)


def test_the_example_is_a_short_recording():
    request = SCENARIO.request.model_validate(dict(SCENARIO.example))
    assert decode(SCENARIO.row_of(request)["audio"]).duration_s == 0.05
    assert len(SCENARIO.example["audio"]) < 700


def test_a_row_asked_as_a_request_is_the_row_again():
    request = SCENARIO.request.model_validate(SCENARIO.as_request({"audio": WAV, "text": "ab", "speaker": ""}))
    assert SCENARIO.row_of(request) == {"audio": WAV}


@pytest.mark.parametrize(
    ("audio", "why"),
    [
        ("no base64!", "base64"),
        ("", "at least 1 character"),
        (base64.b64encode(b"to be recorded").decode(), "no WAV, FLAC, Ogg or MP3"),
        (base64.b64encode(WAV[:200]).decode(), "samples announced"),
        (base64.b64encode(encode_wav(np.zeros(9, np.float32), sample_rate_hz=1)).decode(), "1 Hz"),
    ],
)
def test_what_is_no_recording_is_no_request(audio, why):
    with pytest.raises(ValidationError, match=why):
        SCENARIO.request.model_validate({"audio": audio})


def test_predict_takes_the_name_of_a_file(tmp_path):
    path = tmp_path / "seven eight.wav"
    path.write_bytes(WAV)
    assert _request(f"{path}\n", 1, "the input", SCENARIO) == {"audio": WAV}


@pytest.mark.parametrize("name", ["missing.wav", "a\0b", "."])
def test_predict_says_which_file_it_can_not_read(tmp_path, name):
    with pytest.raises(SourceError, match="not a request"):
        _request(str(tmp_path / name), 1, "the input", SCENARIO)


@pytest.mark.parametrize(
    ("files", "label_from"),
    [
        (["7_ann_0.wav", "8_bob_1.wav"], "pattern"),
        (["7_ann_0.wav", "README.txt"], "pattern"),
        (["wavs/a.wav", "train.csv"], "column"),
    ],
)
def test_init_looks_into_a_folder_for_where_transcripts_are(tmp_path, files, label_from):
    for name in files:
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).write_bytes(WAV)
    root = tmp_path / "ws"
    root.mkdir()
    assert main(["init", str(root), "--scenario", "speech-recognition", "--source", str(tmp_path / "clips")]) == 0
    config = Workspace.at(root).config
    assert config.source.label_from == label_from
    assert config.split.group_by is None  # a few speakers may all fall on one side
