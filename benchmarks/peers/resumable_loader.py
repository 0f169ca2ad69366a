"""A data loader that knows where it is: what Lightning asks its users to write, in its shortest form.

Lightning saves the state of a data loader that has `state_dict` and `load_state_dict`, and gives it back
before it iterates. It brings no such loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class Positioned(Sampler[list[int]]):
    """Batches of row numbers in an order drawn for each epoch from its number; goes on from `position`."""

    def __init__(self, num_rows: int, *, batch_size: int, seed: int) -> None:
        self._num_rows, self._batch_size, self._seed = num_rows, batch_size, seed
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return -(-self._num_rows // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        if self.position >= len(self):
            self.epoch, self.position = self.epoch + 1, 0
        generator = torch.Generator().manual_seed(self._seed + self.epoch)
        order = torch.randperm(self._num_rows, generator=generator).split(self._batch_size)
        while self.position < len(self):
            self.position += 1
            yield order[self.position - 1].tolist()


class ResumableLoader(DataLoader[dict[str, Tensor]]):
    """A loader without workers, whose state is the epoch and the batches read of it."""

    def __init__(
        self,
        rows: Dataset[dict[str, Tensor]],
        *,
        batch_size: int,
        seed: int,
        collate: Callable[[Sequence[dict[str, Tensor]]], dict[str, Tensor]],
    ) -> None:
        self._positioned = Positioned(len(rows), batch_size=batch_size, seed=seed)  # type: ignore[arg-type]
        super().__init__(rows, batch_sampler=self._positioned, collate_fn=collate)

    def state_dict(self) -> dict[str, int]:
        """Where the next batch is."""
        return {"epoch": self._positioned.epoch, "position": self._positioned.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self._positioned.epoch, self._positioned.position = state["epoch"], state["position"]
