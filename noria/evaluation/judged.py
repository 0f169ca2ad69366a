"""What a model said about rows whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from noria.data.rows import read_rows
from noria.errors import ArtifactError
from noria.evaluation.inference import Row, softmax
from noria.scenarios.base import Scenario


@dataclass(frozen=True)
class Judged:
    """Answers beside the truth; N rows, C classes.

    Attributes
    ----------
    ids:
        Row ids.
    targets:
        int64 (N,) class indices; for a regression float64 (N,) values.
    outputs:
        float64 (N, C) probabilities; for a regression float64 (N,) values.
    labels:
        Class names in the order of `outputs`; empty for a regression.
    slices:
        bool (N,) per named group of rows.
    """

    ids: tuple[str, ...]
    targets: np.ndarray
    outputs: np.ndarray
    labels: tuple[str, ...]
    slices: Mapping[str, np.ndarray]

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
        )


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


def judge(rows: Sequence[Row], logits: np.ndarray, *, labels: Sequence[str], scenario: Scenario) -> Judged:
    """Set a model's logits, float32 (N, C), beside the truth in `rows`.

    `labels` empty means a regression: the target is a number and C = 1. A class that the model never
    saw is one it gives no probability to.
    """
    ids = tuple(str(row["id"]) for row in rows)
    slices = _slices(rows, scenario)
    if not labels:
        values = np.array([float(str(row[scenario.target])) for row in rows])
        return Judged(ids, values, logits[:, 0].astype(np.float64), (), slices)
    truth = [str(row[scenario.target]) for row in rows]
    names = (*labels, *sorted(set(truth) - set(labels)))
    index = {name: i for i, name in enumerate(names)}
    outputs = np.zeros((len(rows), len(names)))
    outputs[:, : len(labels)] = softmax(logits)
    return Judged(ids, np.array([index[name] for name in truth]), outputs, names, slices)


def _slices(rows: Sequence[Row], scenario: Scenario) -> dict[str, np.ndarray]:
    members = [scenario.slices(row) for row in rows]
    names = sorted({name for row in members for name in row})
    return {name: np.array([row.get(name, False) for row in members]) for name in names}
