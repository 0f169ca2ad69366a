"""How the champion does on what arrived: its metric on fresh labelled rows, what people said of it, and drift.

A row is fresh when the champion's data did not have it. Few rows are shown and not judged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from noria.artifacts import Artifact
from noria.config import Config
from noria.data.intake import FEEDBACK
from noria.data.rows import read_batches, read_rows, shard_paths
from noria.evaluation.bootstrap import Estimate
from noria.evaluation.proportion import difference, wilson_interval
from noria.monitoring.baseline import (
    MOST_VECTORS,
    Baseline,
    Measured,
    answers_of,
    judge,
    measure_metric,
    read_baseline,
    read_known,
    row_hashes,
    sample,
)
from noria.monitoring.drift import Feature, LabelShift, Sample, find_drift, label_shift
from noria.monitoring.features import Columns, measured_features, repaired_rows
from noria.monitoring.representation import represent
from noria.scenarios.base import Row, Scenario
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.serving.reuse import hashes_of
from noria.serving.store import ModelStore

logger = logging.getLogger(__name__)

ROWS = "rows"
"""The folder of an arrivals artifact that has its rows."""


@dataclass(frozen=True)
class FreshMetric:
    """The champion's main metric on fresh rows, beside what it was on its validation rows.

    Attributes
    ----------
    name, value, low, high:
        On fresh rows, with its interval.
    baseline, drop, drop_low, drop_high:
        On the validation rows; what was lost, with the ends of its interval.
    rows:
        Fresh rows that judged.
    judged:
        Whether they are enough (`evaluate.min_slice_rows`) to decide anything.
    """

    name: str
    value: float
    low: float
    high: float
    baseline: float
    drop: float
    drop_low: float
    drop_high: float
    rows: int
    judged: bool


@dataclass(frozen=True)
class Said:
    """What people said of the champion's answers: how many, and the share that was right, with its interval."""

    right: int
    wrong: int
    agreement: Estimate | None


@dataclass(frozen=True)
class Monitoring:
    """All of it.

    Attributes
    ----------
    version:
        The champion; None while nothing is live.
    time:
        UTC, ISO 8601.
    rows, untried:
        Fresh rows, and those among them that no training has seen, not even one whose model was not better.
    tried:
        The version that was trained last.
    metric, features, label_shift:
        None and empty where there is nothing to compare with, or nothing came.
    samples:
        What was compared, for pictures: the champion's, then the arrivals'.
    """

    version: str | None
    time: str
    rows: int = 0
    untried: int = 0
    tried: str | None = None
    metric: FreshMetric | None = None
    features: tuple[Feature, ...] = ()
    label_shift: LabelShift | None = None
    feedback: Said = field(default_factory=lambda: Said(0, 0, None))
    note: str = ""
    samples: tuple[Sample, Sample] | None = None


def monitor(
    arrivals: Artifact, store: ModelStore, *, scenario: Scenario, config: Config, known_rows: Path
) -> Monitoring:
    """Look at everything; change nothing. Where nothing came, no model is loaded.

    `known_rows` are the shards of rows that the workspace has already: of them a fresh row of a scenario with a rule
    of its own (`hold_out`) takes its context.

    Raises
    ------
    StoreError
        When the pointer or a baseline can't be read.
    BundleError
        When the champion is damaged.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    said, rows = _said(arrivals, config), arrivals.path / ROWS
    ids, live = row_hashes(rows), store.production()
    if live is None:
        tried, note = store.tried_last(), "nothing is live yet"
        return Monitoring(None, now, len(ids), _num_unknown(ids, tried, store), tried, feedback=said, note=note)
    if not store.baselines.has(live.version):
        note = f"{live.version} has no baseline to compare with; the next training makes one"
        return Monitoring(live.version, now, len(ids), len(ids), feedback=said, note=note)
    baseline = read_baseline(store.baselines.fetch(live.version))
    fresh = ids[~np.isin(ids, baseline.known)]
    tried = store.tried_last() or live.version
    untried = len(fresh) if tried == live.version else _num_unknown(fresh, tried, store)
    found = Monitoring(live.version, now, len(fresh), untried, tried, feedback=said)
    chosen = sample(_asked(rows, set(fresh.tolist())), config.update.drift.sample_rows) if len(fresh) else []
    if not chosen:
        return found
    predictor = Predictor(open_bundle(store.fetch(live.version, signed=False).path))
    return _compared(found, chosen, baseline, predictor, scenario=scenario, config=config, known_rows=known_rows)


def _compared(
    found: Monitoring,
    fresh: Sequence[Row],
    baseline: Baseline,
    predictor: Predictor,
    *,
    scenario: Scenario,
    config: Config,
    known_rows: Path,
) -> Monitoring:
    """`found`, with all that takes rows and a model."""
    rows = repaired_rows(fresh, scenario=scenario, clean=config.clean)
    if not rows:
        return found
    features = Columns.of_table(measured_features(rows, scenario=scenario))
    judges = _judges(rows, scenario=scenario, config=config, known_rows=known_rows)
    answers = answers_of(judges, predictor) if judges else pa.table({})
    vectors = represent(judges[:MOST_VECTORS], predictor.bundle) if judges else np.zeros_like(baseline.vectors[:0])
    old = Sample(Columns.of_table(baseline.features), Columns.of_table(baseline.answers), baseline.vectors)
    new = Sample(features, Columns.of_table(answers), vectors)
    drift = config.update.drift
    return Monitoring(
        **{name: getattr(found, name) for name in ("version", "time", "rows", "untried", "tried", "feedback")},
        metric=_metric(judges, baseline.metric, predictor, config) if judges else None,
        features=find_drift(old, new, config=drift, seed=config.seed),
        label_shift=label_shift(old.features, new.features, config=drift, seed=config.seed),
        samples=(old, new),
    )


def _metric(judges: Sequence[Row], old: Measured, predictor: Predictor, config: Config) -> FreshMetric:
    new = measure_metric(judge(judges, predictor), config=config)
    drop = difference(old.estimate, new.estimate)
    return FreshMetric(
        new.name,
        new.value,
        new.low,
        new.high,
        baseline=old.value,
        drop=drop.value,
        drop_low=drop.low,
        drop_high=drop.high,
        rows=new.rows,
        judged=new.rows >= config.evaluate.min_slice_rows,
    )


def _judges(rows: Sequence[Row], *, scenario: Scenario, config: Config, known_rows: Path) -> Sequence[Row]:
    """The fresh rows that can judge: all, or those of the scenario's rule, with what they need of known rows."""
    if scenario.hold_out is None:
        return rows
    names = ["id", "parent_id", *scenario.schema.names]
    fresh_ids = {str(row["id"]) for row in rows}
    known = [row for row in _rows(known_rows, names) if row["parent_id"] is None and str(row["id"]) not in fresh_ids]
    schema = pa.schema([("id", pa.string()), ("parent_id", pa.string()), *scenario.schema])
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in (*known, *rows)], schema=schema)
    held = scenario.hold_out(table, config.split)
    judges = table.filter(pa.array(held.judges)).to_pylist()
    context = held.context.to_pylist() if held.context.num_columns else [{} for _ in judges]
    return [{**row, **more} for row, more in zip(judges, context, strict=True) if row["id"] in fresh_ids]


def _asked(directory: Path, wanted: AbstractSet[int]) -> Iterator[Row]:
    """The rows whose ids hash to `wanted`, without those that feedback became.

    People correct what is wrong: on corrections alone, any model fails, and they are no sample of what is asked.
    """
    for batch in read_batches(directory):
        hashes = hashes_of(batch.column("id").to_pylist()).tolist()
        origins = batch.column("origin").to_pylist()
        told = [origin.startswith(f"{FEEDBACK}:") for origin in origins]
        yield from batch.filter(
            pa.array([one in wanted and not was_told for one, was_told in zip(hashes, told, strict=True)], pa.bool_())
        ).to_pylist()


def _num_unknown(ids: npt.NDArray[np.uint64], version: str | None, store: ModelStore) -> int:
    """How many rows, by `hashes_of` their ids, a version was not trained on; without one, all."""
    known = read_known(store.baselines.fetch(version)) if version else ids[:0]
    return int((~np.isin(ids, known)).sum())


def _rows(directory: Path, columns: Sequence[str]) -> list[dict[str, object]]:
    return list(read_rows(directory, columns=columns)) if shard_paths(directory) else []


def _said(arrivals: Artifact, config: Config) -> Said:
    told = arrivals.facts.get("feedback")
    told = told if isinstance(told, Mapping) else {}
    right, wrong = int(told.get("right", 0)), int(told.get("wrong", 0))
    total = right + wrong
    return Said(right, wrong, wilson_interval(right, total, confidence=config.evaluate.confidence) if total else None)
