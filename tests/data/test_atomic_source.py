"""RecBole's atomic files: names without their types, tabs, no quotes."""

import pyarrow as pa
import pyarrow.parquet as pq

from noria.config import SourceConfig
from noria.data.event_rows import SCHEMA
from noria.data.ingest import ingest
from noria.data.rows import read_rows

COLUMNS = {"user": "user_id", "item": "item_id", "time": "timestamp"}


def events(tmp_path, source: SourceConfig) -> list[tuple[object, object, object]]:
    ingest(
        source, schema=SCHEMA, target="item", base=tmp_path, raw=tmp_path / "raw", quarantine=tmp_path / "quarantine"
    )
    return [(row["user"], row["item"], row["time"]) for row in read_rows(tmp_path / "raw")]


def test_an_atomic_file_is_read_by_its_names_and_quotes_are_letters(tmp_path):
    (tmp_path / "a.inter").write_text('timestamp:float\tuser_id:token\titem_id:token\n5\tu\t"Sleepers\n6\tu\tx, y"\n')
    (tmp_path / "a.item").write_text("item_id:token\n1\n")
    found = events(tmp_path, SourceConfig(path=".", columns=COLUMNS))
    assert found == [("u", '"Sleepers', 5.0), ("u", 'x, y"', 6.0)]


def test_a_missing_time_is_a_row_for_the_gate_and_dates_are_seconds(tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\nu,a,\nu,b,2020-09-13T12:26:40Z\nu,c,soon\nu,d,7\n")
    found = events(tmp_path, SourceConfig(path="a.csv", columns=COLUMNS))
    assert found == [("u", "a", None), ("u", "b", 1_600_000_000.0), ("u", "d", 7.0)]


def test_times_of_a_parquet_file_are_seconds(tmp_path):
    times = pa.array([1_600_000_000], pa.timestamp("s"))
    pq.write_table(pa.table({"user_id": [7], "item_id": ["a"], "timestamp": times}), tmp_path / "a.parquet")
    assert events(tmp_path, SourceConfig(path="a.parquet", columns=COLUMNS)) == [("7", "a", 1_600_000_000.0)]
