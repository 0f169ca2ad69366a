import pyarrow as pa
import pytest
import s3fs
from s3_server import s3_server

from noria.config import SourceConfig
from noria.data.ingest import ingest
from noria.data.rows import read_rows
from noria.errors import SourceError

SCHEMA = pa.schema([pa.field("text", pa.string()), pa.field("label", pa.string())])


def read(base, url):
    return ingest(
        SourceConfig(path=url, label_from="file"),
        schema=SCHEMA,
        target="label",
        base=base,
        raw=base / "raw",
        quarantine=base / "ingest",
    )


@pytest.mark.slow
def test_a_bucket_is_read_like_a_directory_and_its_errors_say_what_to_do(tmp_path, monkeypatch):
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = s3fs.S3FileSystem(skip_instance_cache=True)
        bucket.mkdir("reviews")
        bucket.pipe("reviews/2026/neg.txt", "不好\n很差\n".encode())
        bucket.pipe("reviews/2026/pos.txt", "很好\n".encode() + b"\xff\n" + "好\n".encode())
        artifact = read(tmp_path, "s3://reviews/2026")
        assert [(row["text"], row["label"]) for row in read_rows(artifact.path)][:2] == [
            ("不好", "neg"),
            ("很差", "neg"),
        ]
        assert (artifact.counts["rows"], artifact.counts["quarantined"]) == (4, 1)
        assert read(tmp_path, "s3://reviews/2026/neg.txt").counts["rows"] == 2

        with pytest.raises(SourceError, match="does not exist") as caught:
            read(tmp_path, "s3://reviews/2027")
        assert "reviews/2026" in str(caught.value)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(SourceError) as caught:
            read(tmp_path, "s3://reviews/2026")
        assert "AWS_ENDPOINT_URL" in str(caught.value)
