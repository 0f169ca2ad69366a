"""One forward pass of a step: what goes in, what should come out, and which rows it is made of.

Shapes: B rows, T width, N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch, or a part of one.

    Attributes
    ----------
    inputs:
        By name, rows first.
    targets:
        (N): one for every row, or one for each of `positions`.
    positions:
        int64 (N): where the targets are in the flattened (B, T), or None where rows have one each.
    width:
        T.
    rows:
        int64 (B): numbers of the training rows, for reports.
    lengths:
        int64 (B): real tokens of each row.
    layout:
        (B, …): what an objective must know of the rows on the host, if anything.
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor
    positions: Tensor | None
    width: int
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    layout: NDArray[np.generic] | None = None

    @property
    def num_targets(self) -> int:
        return len(self.targets)

    @property
    def num_tokens(self) -> int:
        """Real tokens, for the throughput."""
        return int(self.lengths.sum())

    def part(self, number: int, *, of: int) -> Batch:
        """The rows of one of several nearly equal parts; a part of a few rows can be empty."""
        if of == 1:
            return self
        first, last = (len(self.rows) * n // of for n in (number, number + 1))
        inputs = {name: tensor[first:last] for name, tensor in self.inputs.items()}
        if self.positions is None:
            targets, positions = self.targets[first:last], None
        else:
            row = self.positions // self.width
            inside = (row >= first) & (row < last)
            targets, positions = self.targets[inside], self.positions[inside] - first * self.width
        return replace(
            self,
            inputs=inputs,
            targets=targets,
            positions=positions,
            rows=self.rows[first:last],
            lengths=self.lengths[first:last],
            layout=None if self.layout is None else self.layout[first:last],
        )

    def to(self, device: torch.device) -> Batch:
        """Copy to the device without waiting for it."""
        if device.type == "cpu":
            return self

        def copy(tensor: Tensor) -> Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        return replace(
            self,
            inputs={name: copy(tensor) for name, tensor in self.inputs.items()},
            targets=copy(self.targets),
            positions=None if self.positions is None else copy(self.positions),
        )
