"""PyTorch as the thing that runs a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from noria.evaluation.inference import LOGITS, Run, num_cores, outputs_of
from noria.scenarios.base import Encoder, Row, Tensors


def torch_run(model: torch.nn.Module) -> Run:
    """Run batches through a module, on the device it is on, without gradients or dropout."""
    device = next(model.parameters()).device
    model.eval()

    def run(tensors: Tensors) -> Tensors:
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(array).to(device) for name, array in tensors.items()})
        by_name = found if isinstance(found, dict) else {LOGITS: found.float()}
        return {name: tensor.cpu().numpy() for name, tensor in by_name.items()}

    return run


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread per operator: batches run side by side instead."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def torch_outputs(model: torch.nn.Module, rows: Sequence[Row], *, encoder: Encoder) -> list[Tensors]:
    """What a module on the CPU says of each row, on all cores."""
    with single_threaded():
        return outputs_of(rows, encoder=encoder, run=torch_run(model), workers=num_cores())
