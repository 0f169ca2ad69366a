"""What a model said about rows whose truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from noria.data.rows import read_rows
from noria.errors import ArtifactError
from noria.evaluation.inference import logits_of, softmax
from noria.evaluation.metrics import CLASSIFICATION, REGRESSION, Metric
from noria.scenarios.base import Row, Tensors

MOST_FREQUENT, MEAN = "always the most frequent answer", "always the mean"
Slices = Callable[[Row], Mapping[str, bool]]


@dataclass(frozen=True)
class Judged:
    """Answers beside the truth; N rows, C classes or other quantities.

    Attributes
    ----------
    ids:
        Row ids.
    targets:
        int64 (N,) class indices; for a regression float64 (N,) values; else what the metrics want.
    outputs:
        float64 (N, C) probabilities; for a regression float64 (N,) values; else (N, …) what the metrics are
        made of, such as counts of matching n-grams.
    labels:
        Class names in the order of `outputs`; empty where answers are no classes.
    slices:
        bool (N,) per named group of rows.
    metrics:
        By name; the first is the main one, and there higher is better.
    trivial:
        `outputs` of an answer that takes no learning, which a first model must beat.
    trivial_name:
        That answer, in words.
    columns:
        What a person wants to see of each row beside its numbers: column -> N values.
    """

    ids: tuple[str, ...]
    targets: np.ndarray
    outputs: np.ndarray
    labels: tuple[str, ...]
    slices: Mapping[str, np.ndarray]
    metrics: Mapping[str, Metric]
    trivial: np.ndarray
    trivial_name: str = MOST_FREQUENT
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return len(self.ids)

    @property
    def predicted(self) -> np.ndarray:
        """int64 (N,) class indices."""
        return np.asarray(self.outputs.argmax(axis=1))

    def where(self, member: np.ndarray) -> Judged:
        """The rows for which `member`, bool (N,), is true."""
        return replace(
            self,
            ids=tuple(i for i, inside in zip(self.ids, member, strict=True) if inside),
            targets=self.targets[member],
            outputs=self.outputs[member],
            slices={name: rows[member] for name, rows in self.slices.items()},
            trivial=self.trivial[member],
            columns={
                name: [value for value, inside in zip(values, member, strict=True) if inside]
                for name, values in self.columns.items()
            },
        )

    def trivially_answered(self) -> Judged:
        """The same rows with the answer that takes no learning."""
        return replace(self, outputs=self.trivial)


def read_validation(splits: Path) -> list[dict[str, object]]:
    """The rows that judge, in a fixed order.

    Raises
    ------
    ArtifactError
        When there are none.
    """
    rows = sorted(read_rows(splits / "validation"), key=lambda row: str(row["id"]))
    if not rows:
        raise ArtifactError(
            "the validation set is empty",
            where=str(splits / "validation"),
            expected="at least one row",
            next_step="bring more rows, or raise `split.validation_share`",
        )
    return rows


def judge_classes(
    rows: Sequence[Row], outputs: Sequence[Tensors], *, target: str, labels: Sequence[str], slices: Slices
) -> Judged:
    """Set logits (C) of each row beside the class in its column `target`.

    A class that the model never saw is one it gives no probability to.
    """
    truth = [str(row[target]) for row in rows]
    names = (*labels, *sorted(set(truth) - set(labels)))
    index = {name: i for i, name in enumerate(names)}
    targets = np.array([index[name] for name in truth])
    probabilities = np.zeros((len(rows), len(names)))
    probabilities[:, : len(labels)] = softmax(logits_of(outputs))
    ((most_frequent, _),) = Counter(targets.tolist()).most_common(1)
    trivial = np.zeros_like(probabilities)
    trivial[:, most_frequent] = 1.0
    return Judged(
        ids_of(rows), targets, probabilities, names, slices_of(rows, slices), metrics=CLASSIFICATION, trivial=trivial
    )


def judge_values(rows: Sequence[Row], outputs: Sequence[Tensors], *, target: str, slices: Slices) -> Judged:
    """Set the first logit of each row beside the number in its column `target`: a regression."""
    truth = np.array([float(str(row[target])) for row in rows])
    return Judged(
        ids_of(rows),
        truth,
        logits_of(outputs)[:, 0].astype(np.float64),
        (),
        slices_of(rows, slices),
        metrics=REGRESSION,
        trivial=np.full(len(rows), truth.mean()),
        trivial_name=MEAN,
    )


def ids_of(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(str(row["id"]) for row in rows)


def slices_of(rows: Sequence[Row], slices: Slices) -> dict[str, np.ndarray]:
    """Which rows are in each named group, bool (N)."""
    members = [slices(row) for row in rows]
    names = sorted({name for row in members for name in row})
    return {name: np.array([row.get(name, False) for row in members]) for name in names}
