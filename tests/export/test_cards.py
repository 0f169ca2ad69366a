"""The data card accounts for every row, from the facts that the manifests carry along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from noria.artifacts import Artifact, Ledger, read_artifact, write_artifact
from noria.config import Config
from noria.export.cards import data_card
from noria.scenarios import load_scenario

SCENARIO = load_scenario("text-classification")
CONFIG = Config.model_validate({"name": "reviews", "scenario": SCENARIO.name, "source": {"path": "sources/reviews"}})


def made(path: Path, kind: str, ledger: Ledger, *parents: Artifact, **facts: object) -> Artifact:
    with write_artifact(path / kind, kind=kind, parents=parents) as draft:
        (draft.path / "rows").write_text(kind)
        draft.ledger, draft.facts = ledger, dict(facts)
        draft.counts = {"rows": ledger.rows_out, "train": 6, "validation": 2}
    return read_artifact(path / kind)


@pytest.fixture
def splits(tmp_path: Path) -> Artifact:
    raw = made(tmp_path, "raw", Ledger(12, 10, 2), source="s3://b/reviews", licence="MIT", refused={"wrong_type": 2})
    preprocessed = made(tmp_path, "preprocessed", Ledger(10, 10), raw)
    verdict = made(tmp_path, "verdict", Ledger(0, 0), preprocessed, passed=True, failed=[])
    cleaned = made(tmp_path, "cleaned", Ledger(10, 7, 3), preprocessed, verdict, refused={"duplicate": 3})
    augmented = made(tmp_path, "augmented", Ledger(7, 8, 0, 1), cleaned, verdict)
    labels = {"train": {"negative": 4, "positive": 2}, "validation": {"positive": 2}}
    return made(tmp_path, "splits", Ledger(8, 8), augmented, labels=labels)


def test_a_manifest_knows_all_that_it_was_made_from(splits: Artifact) -> None:
    assert set(splits.lineage) == {"raw", "preprocessed", "verdict", "cleaned", "augmented"}
    assert splits.lineage["raw"].ledger == Ledger(12, 10, 2)
    assert splits.lineage["augmented"].digest == splits.parents[0]


def test_the_data_card_says_where_every_row_went_and_why(splits: Artifact) -> None:
    card = data_card(splits, config=CONFIG, scenario=SCENARIO)
    for line in (
        "- source: `s3://b/reviews`",
        "- licence: MIT",
        "| ingest | 12 | 0 | 2 | 10 |",
        "| clean | 10 | 0 | 3 | 7 |",
        "| augment | 7 | 1 | 0 | 8 |",
        "| ingest | `wrong_type` | 2 |",
        "| clean | `duplicate` | 3 |",
        "| side | negative | positive |",
        "| train | 4 | 2 |",
        "| validation | 0 | 2 |",
    ):
        assert line in card.splitlines()


def test_what_is_not_known_is_said_to_be_so(splits: Artifact) -> None:
    card = data_card(replace(splits, lineage={}, facts={}), config=CONFIG, scenario=SCENARIO)
    assert "- source: `unknown`" in card and "- licence: not stated" in card
    assert "- train: 6 rows" in card and "- validation: 2 rows" in card
