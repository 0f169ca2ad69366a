"""What is compared of rows and of answers: columns of numbers (NaN: missing) or of categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from noria.config import CleanConfig
from noria.data.rows import row_schema
from noria.scenarios.base import Row, Scenario

LABEL_PREFIX, ANSWER_PREFIX = "label: ", "answer: "
_NONE = "(none)"


@dataclass(frozen=True)
class Columns:
    """One sample of rows: float64 (N,) and category names (N,) by column."""

    numbers: Mapping[str, npt.NDArray[np.float64]]
    categories: Mapping[str, Sequence[str]]

    @classmethod
    def of_table(cls, table: pa.Table) -> Columns:
        """Numbers as they are; booleans and texts as categories."""
        numbers, categories = {}, {}
        for name in table.schema.names:
            column = table.column(name)
            if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
                values = pc.fill_null(pc.cast(column, pa.float64()), float("nan"))
                numbers[name] = values.to_numpy(zero_copy_only=False)
            else:
                categories[name] = [_NONE if value is None else str(value) for value in column.to_pylist()]
        return cls(numbers, categories)

    @property
    def num_rows(self) -> int:
        columns = [*self.numbers.values(), *self.categories.values()]
        return len(columns[0]) if columns else 0


def repaired_rows(rows: Sequence[Row], *, scenario: Scenario, clean: CleanConfig) -> list[Row]:
    """Rows as the cleaner leaves those that a model is trained on; what can't be repaired is left out.

    Were they not, the cleaner would look like drift.
    """
    repaired: list[Row] = []
    for row in rows:
        content = {name: row.get(name) for name in scenario.schema.names}
        values = scenario.repair(content, clean).values
        if values is not None and values[scenario.target] is not None:
            repaired.append({**row, **values})
    return repaired


def measured_features(repaired: Sequence[Row], *, scenario: Scenario) -> pa.Table:
    """What the scenario measures of rows, and their label where answers are classes; (N, features)."""
    schema = row_schema(scenario.schema)
    rows = [{name: row.get(name) for name in schema.names} for row in repaired]
    measured = scenario.measure(pa.RecordBatch.from_pylist(rows, schema=schema))
    table = pa.Table.from_batches([measured]).drop_columns(schema.names)
    if scenario.labels is None:
        return table
    labels = [str(row[scenario.target]) for row in repaired]
    return table.append_column(f"{LABEL_PREFIX}{scenario.target}", pa.array(labels, pa.string()))


def answer_features(answers: Sequence[Mapping[str, object]]) -> pa.Table:
    """What can be said of any scenario's answers, (N, features): the class, how sure it is, how long a text is.

    A list of scores counts by its first, the best; a mapping by its largest.
    """
    rows = [_of_answer(answer) for answer in answers]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({f"{ANSWER_PREFIX}{name}": [row.get(name) for row in rows] for name in names})


def _of_answer(answer: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in answer.items():
        if name == "label":
            found["label"] = value
        elif name == "scores":
            scores = list(value.values()) if isinstance(value, Mapping) else value
            assert isinstance(scores, list)
            found["confidence"] = float(max(scores, default=float("nan")))
        elif name in ("confidence", "score") and isinstance(value, float):
            found["confidence"] = value
        elif isinstance(value, bool):
            found[name] = value
        elif isinstance(value, str) and name != "model_version":
            found[f"{name} characters"] = len(value)
    return found
