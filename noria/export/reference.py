"""What every form of a model is compared with: the PyTorch model, and its answers on the validation set."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from noria.data.rows import read_rows
from noria.errors import ExportError
from noria.evaluation.judged import Judged
from noria.evaluation.torch_run import torch_outputs
from noria.scenarios.base import Encoder, Row, Scenario, Tensors, pieces_of

_LONGEST_EXAMPLE_ROWS = 3
_CALIBRATION_ROWS = 128


@dataclass(frozen=True)
class Reference:
    """The PyTorch model and what it says.

    Attributes
    ----------
    rows:
        The validation rows.
    outputs, judged:
        What the model says of each, and how good that is.
    calibration:
        Training rows, for a form that has to see numbers before it rounds them: none of those that judge it.
    """

    model: torch.nn.Module
    encoder: Encoder
    scenario: Scenario
    rows: Sequence[Row]
    outputs: Sequence[Tensors]
    judged: Judged
    calibration: Sequence[Row] = ()

    def example(self) -> tuple[Tensors, Mapping[str, tuple[int, ...]]]:
        """A batch of rows of different lengths, so that no two open sizes look equal by chance.

        With it, by input, the axes on which the shortest and the longest row are of one size: these are no lengths.
        """
        encoded = sorted(self._pieces(self.rows[:100]), key=self.encoder.num_tokens)
        if len(encoded) < 2:
            raise ExportError(
                "an export needs two validation rows",
                where=f"{len(encoded)} row",
                expected="rows of different lengths, so that every size stays open in the graph",
                next_step="bring more rows, or raise `split.validation_share`",
            )
        alone = [self.encoder.collate([row]) for row in (encoded[0], encoded[-1])]
        shared = {
            name: tuple(axis for axis in range(1, array.ndim) if array.shape[axis] == alone[1][name].shape[axis])
            for name, array in alone[0].items()
        }
        return self.encoder.collate([encoded[0], *encoded[-_LONGEST_EXAMPLE_ROWS:]]), shared

    def batches(self, *, rows: int, repeats: int) -> list[Tensors]:
        """Batches of validation rows as they come; of rows in pieces, as many pieces."""
        taken = [self.rows[i % len(self.rows)] for i in range(rows * repeats)]
        encoded = self._pieces(taken)[: len(taken)]
        return [self.encoder.collate(encoded[start : start + rows]) for start in range(0, len(encoded), rows)]

    def calibration_batches(self) -> list[Tensors]:
        """The calibration rows, one by one: no padding says what numbers are like."""
        return [self.encoder.collate([piece]) for piece in self._pieces(self.calibration)]

    def _pieces(self, rows: Sequence[Row]) -> list[Tensors]:
        """What the model reads of some rows, each at once."""
        encoded = self.encoder.encode_batch(rows) if rows else []
        return [piece for row in encoded for piece in pieces_of(self.encoder, row)]


def reference_of(
    model: torch.nn.Module,
    *,
    encoder: Encoder,
    scenario: Scenario,
    rows: Sequence[Row],
    calibration: Sequence[Row] = (),
) -> Reference:
    """Run the PyTorch model over the validation rows."""
    outputs = torch_outputs(model, rows, encoder=encoder)
    return Reference(model, encoder, scenario, rows, outputs, scenario.judge(rows, outputs, encoder), calibration)


def read_calibration(splits: Path) -> list[Row]:
    """Some training rows, always the same: their ids are digests, so that the lowest are a sample."""
    return heapq.nsmallest(_CALIBRATION_ROWS, read_rows(splits / "train"), key=lambda row: str(row["id"]))
