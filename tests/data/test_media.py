"""Where recordings come from: folders whose file names say everything, and tables that name files."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.config import SourceConfig
from noria.data.audio import encode_wav
from noria.data.ingest import ingest
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows
from noria.errors import ConfigError, NoriaError
from noria.scenarios import load_scenario

SCENARIO = load_scenario("speech-recognition")
WAV = encode_wav(np.linspace(-0.5, 0.5, 800, dtype=np.float32), sample_rate_hz=8_000)


def read(root, **source) -> tuple[list[dict], dict[str, str]]:
    """Rows, and the refused by origin."""
    out = root / "out"
    artifact = ingest(
        SourceConfig(**{"path": "clips", "label_from": "pattern", **source}),
        schema=SCENARIO.schema,
        target=SCENARIO.target,
        base=root,
        raw=out / "raw",
        quarantine=out / "quarantine",
    )
    refused = {row.origin: row.rule for row in read_quarantine(out / "quarantine")}
    assert artifact.counts["rows"] + len(refused) == artifact.counts["rows"] + artifact.counts["quarantined"]
    return list(read_rows(artifact.path)), refused


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "pattern", "text", "speaker"),
    [
        ("7_jackson_32.wav", "{label}_{speaker}_{take}", "7", "jackson"),
        ("turn_on_ann_3.wav", "{label}_{speaker}_{take}", "turn on", "ann"),
        ("seven/ann_nohash_0.wav", "{label}/{speaker}_nohash_{take}", "seven", "ann"),
        ("deep/down/ann/yes-2.WAV", "{speaker}/{label}-{take}", "yes", "ann"),
        ("seven.wav", "{label}", "seven", ""),
    ],
)
def test_a_file_s_name_says_its_row(clips, tmp_path, name, pattern, text, speaker):
    (clips / name).parent.mkdir(parents=True, exist_ok=True)
    (clips / name).write_bytes(WAV)
    ((row), *others), refused = read(tmp_path, pattern=pattern)
    assert (row["text"], row["speaker"], row["audio"]) == (text, speaker, WAV)
    assert row["origin"] == f"{name}:1" and not others and not refused


def test_names_that_do_not_follow_the_pattern_and_files_too_large_are_set_aside(clips, tmp_path):
    (clips / "7_ann_0.wav").write_bytes(WAV)
    (clips / "noise.wav").write_bytes(WAV)
    (clips / "8_ann_0.wav").write_bytes(WAV * 10)
    (clips / "README.md").write_text("no recording")
    rows, refused = read(tmp_path, max_row_bytes=5_000)
    assert len(rows) == 1
    assert refused == {"noise.wav:1": "unknown_name", "8_ann_0.wav:1": "too_long"}


@pytest.mark.parametrize("pattern", ["{label}_{label}", "{label}_{speaker}_{speaker}"])
def test_a_pattern_that_names_a_part_twice_is_an_error_of_the_configuration(clips, tmp_path, pattern):
    (clips / "7_ann_0.wav").write_bytes(WAV)
    with pytest.raises(ConfigError, match=r"source.pattern"):
        read(tmp_path, pattern=pattern)


def test_a_table_names_recordings_from_its_own_folder(clips, tmp_path):
    (clips / "wavs").mkdir()
    (clips / "wavs" / "a.wav").write_bytes(WAV)
    (clips / "train.csv").write_text(
        "path,sentence\nwavs/a.wav,Seven\nwavs/b.wav,Eight\n../secret.wav,Nine\n/etc/passwd,Ten\n,Zero\n"
    )
    rows, refused = read(tmp_path, label_from="column", columns={"audio": "path", "text": "sentence"})
    assert [(row["audio"], row["text"], row["speaker"]) for row in rows] == [(WAV, "Seven", "")]
    assert refused == {
        "train.csv:3": "missing_file",
        "train.csv:4": "bad_path",
        "train.csv:5": "bad_path",
        "train.csv:6": "bad_path",
    }


def test_a_speaker_is_kept_where_the_table_has_one_in_any_of_its_rows(clips, tmp_path):
    (clips / "a.wav").write_bytes(WAV)
    lines = [{"audio": "a.wav", "text": "seven", "speaker": "ann"}, {"audio": "a.wav", "text": "eight"}]
    (clips / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows, refused = read(tmp_path, label_from="column")
    assert [row["speaker"] for row in rows] == ["ann", ""] and not refused


def test_bytes_in_parquet_are_rows_as_they_are(clips, tmp_path):
    pq.write_table(pa.table({"audio": [WAV], "text": ["seven"]}), clips / "rows.parquet")
    rows, _ = read(tmp_path, label_from="column")
    assert rows[0]["audio"] == WAV and rows[0]["speaker"] == ""


def test_a_table_alone_can_not_be_the_source_of_files_beside_it(clips, tmp_path):
    (clips / "a.wav").write_bytes(WAV)
    (clips / "rows.csv").write_text("audio,text\na.wav,seven\n")
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, path="clips/rows.csv", label_from="column")
    assert refused.value.next_step == "source.path: clips"


def test_a_scenario_of_text_has_no_media(clips, tmp_path):
    (clips / "7_ann_0.wav").write_bytes(WAV)
    text = load_scenario("text-classification")
    with pytest.raises(NoriaError, match="holds no file"):
        ingest(
            SourceConfig(path="clips", label_from="pattern"),
            schema=text.schema,
            target=text.target,
            base=tmp_path,
            raw=tmp_path / "raw",
            quarantine=tmp_path / "quarantine",
        )
