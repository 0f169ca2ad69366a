"""What a version was made of and could do, kept beside it, so that what arrives later can be compared.

objects.json          the source objects that were read
known.safetensors     hashes of all ids of rows that were read, sorted
features.parquet      what is measured of training rows (a sample)
answers.parquet       what is said of its answers to validation rows (a sample)
vectors.safetensors   what it makes of those rows (a smaller sample)
metric.json           its main metric on the validation rows, with its interval
"""

from __future__ import annotations

import heapq
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.config import Config
from noria.data.rows import read_batches, read_rows, shard_paths
from noria.evaluation.bootstrap import Estimate, interval
from noria.evaluation.judged import Judged, read_validation
from noria.evaluation.metrics import main_metric
from noria.monitoring.features import answer_features, measured_features, repaired_rows
from noria.monitoring.representation import Vectors, represent
from noria.scenarios.base import Row, Scenario
from noria.serving.companions import BASELINES
from noria.serving.predictor import Predictor
from noria.serving.reuse import hashes_of

logger = logging.getLogger(__name__)

OBJECTS, KNOWN, FEATURES, ANSWERS = "objects.json", "known.safetensors", "features.parquet", "answers.parquet"
VECTORS, METRIC = "vectors.safetensors", "metric.json"
MOST_ANSWERS, MOST_WRITTEN, MOST_VECTORS = 1_000, 200, 400


@dataclass(frozen=True)
class Measured:
    """A main metric on rows: its name, its value with the ends of its interval, and how many rows judged."""

    name: str
    value: float
    low: float
    high: float
    rows: int

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.low, self.high)


@dataclass(frozen=True)
class Baseline:
    """A version's baseline, read; (N, …) of different samples.

    Attributes
    ----------
    known:
        uint64, sorted: `hashes_of` the ids of all rows that were read.
    features, answers:
        What is compared of training rows, and of the version's answers to validation rows.
    vectors:
        Float32 (N, D).
    metric:
        On the validation rows.
    """

    known: npt.NDArray[np.uint64]
    features: pa.Table
    answers: pa.Table
    vectors: Vectors
    metric: Measured


def write_baseline(
    target: Path, predictor: Predictor, splits: Artifact, *, raw: Path, scenario: Scenario, config: Config
) -> Artifact:
    """Write the baseline of a version that was trained on `splits`; `raw` is the artifact of all rows that were read.

    Raises
    ------
    ArtifactError
        When there are no validation rows.
    """
    num_rows = config.update.drift.sample_rows
    judges = sample(read_validation(splits.path), num_rows)
    trained = sample((row for row in read_rows(splits.path / "train") if row["parent_id"] is None), num_rows)
    with write_artifact(target, kind=BASELINES.kind, parents=(splits,)) as draft:
        objects = raw / OBJECTS
        (draft.path / OBJECTS).write_bytes(objects.read_bytes() if objects.exists() else b"[]\n")
        known = np.unique(
            np.concatenate([row_hashes(path) for path in (raw, splits.path / "train", splits.path / "validation")])
        )
        save_file({"ids": known}, draft.path / KNOWN)
        trained = repaired_rows(trained, scenario=scenario, clean=config.clean)
        pq.write_table(measured_features(trained, scenario=scenario), draft.path / FEATURES)
        pq.write_table(answers_of(judges, predictor), draft.path / ANSWERS)
        save_file({"vectors": represent(judges[:MOST_VECTORS], predictor.bundle)}, draft.path / VECTORS)
        metric = measure_metric(judge(judges, predictor), config=config)
        (draft.path / METRIC).write_text(json.dumps(asdict(metric), indent=2) + "\n", encoding="utf-8")
        draft.counts = {"known": len(known), "trained": len(trained), "judges": len(judges)}
        draft.facts = {"version": predictor.version}
    return read_artifact(target, verify=False)


def read_baseline(artifact: Artifact) -> Baseline:
    """What a baseline's artifact holds."""
    path = artifact.path
    return Baseline(
        known=read_known(artifact),
        features=pq.read_table(path / FEATURES),
        answers=pq.read_table(path / ANSWERS),
        vectors=load_file(path / VECTORS)["vectors"],
        metric=Measured(**json.loads((path / METRIC).read_text(encoding="utf-8"))),
    )


def read_known(artifact: Artifact) -> npt.NDArray[np.uint64]:
    """Of a baseline's artifact, `Baseline.known` alone."""
    known: npt.NDArray[np.uint64] = load_file(artifact.path / KNOWN)["ids"]
    return known


def sample(rows: Iterable[Row], num_rows: int) -> list[Row]:
    """At most so many rows, those with the smallest hashes of their ids: any order of `rows` gives the same."""
    return heapq.nsmallest(num_rows, rows, key=lambda row: int(hashes_of([str(row["id"])])[0]))


def judge(rows: Sequence[Row], predictor: Predictor) -> Judged:
    """The version on labelled rows."""
    bundle = predictor.bundle
    return bundle.scenario.judge(rows, predictor.outputs(rows), bundle.encoder)


def measure_metric(judged: Judged, *, config: Config) -> Measured:
    """The main metric with its bootstrap interval."""
    name, metric = main_metric(judged)
    found = interval(metric, judged, config=config.evaluate, seed=config.seed)
    return Measured(name, found.value, found.low, found.high, judged.num_rows)


def answers_of(rows: Sequence[Row], predictor: Predictor) -> pa.Table:
    """What is said of the version's answers to the first rows, asked as a client would ask."""
    scenario = predictor.bundle.scenario
    asked = rows[: MOST_WRITTEN if scenario.written else MOST_ANSWERS]
    requests = [scenario.request.model_validate(dict(scenario.as_request(row))) for row in asked]
    return answer_features(predictor.answer([scenario.row_of(request) for request in requests]))


def row_hashes(directory: Path) -> npt.NDArray[np.uint64]:
    """`hashes_of` the ids of the rows in a directory of shards (N,); none where there is no shard."""
    if not shard_paths(directory):
        return np.zeros(0, np.uint64)
    batches = read_batches(directory, columns=["id"])
    return np.concatenate([np.zeros(0, np.uint64), *(hashes_of(batch.column("id").to_pylist()) for batch in batches)])
