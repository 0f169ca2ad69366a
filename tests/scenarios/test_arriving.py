"""Whatever a scenario's source consists of, what arrives in it is found, judged and counted."""

import json

import pytest
from tiny_runs import initialized

from noria.artifacts import read_artifact, write_artifact
from noria.data.gate import ROWS
from noria.data.quarantine import read_quarantine
from noria.data.rows import read_rows, read_schema
from noria.data.source_objects import OBJECTS
from noria.scenarios import scenario_names
from tasks.arrivals import arrivals
from tasks.ingest import ingest
from tasks.preprocess import preprocess

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", scenario_names())
def test_what_arrives_passes_the_gate_row_by_row_and_is_known_once_it_was_read(name, tmp_path):
    workspace = initialized(name, tmp_path, dirty=True)
    with write_artifact(workspace.raw, kind="raw") as draft:  # read before; of what is all new nothing is judged
        gone = {"name": "gone", "tag": "of-before", "size": 1, "rows": 1}
        (draft.path / OBJECTS).write_text(json.dumps([gone]), encoding="utf-8")
    arrived = arrivals.fn(workspace)
    assert arrived.facts["refused"] == []
    assert arrived.ledger.quarantined == len(list(read_quarantine(workspace.quarantine("arrivals")))) > 0
    ingest.fn(workspace)
    preprocess.fn(workspace)
    assert arrived.ledger.rows_in == read_artifact(workspace.raw).ledger.rows_in
    known = {row["id"]: row for row in read_rows(workspace.preprocessed, columns=["id", "origin"])}
    rows = {row["id"]: row for row in read_rows(arrived.path / ROWS, columns=["id", "origin"])}
    assert rows.items() <= known.items()
    assert read_schema(arrived.path / ROWS) == read_schema(workspace.preprocessed)
    again = arrivals.fn(workspace)
    assert (again.facts["objects"], again.counts["rows"]) == (0, 0)
