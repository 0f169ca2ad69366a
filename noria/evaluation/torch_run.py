"""PyTorch as the thing that runs a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from noria.evaluation.inference import Row, Run, logits_of, num_cores
from noria.scenarios.base import Encoder, Tensors


def torch_run(model: torch.nn.Module) -> Run:
    """Run batches through a module, on the device it is on, without gradients or dropout."""
    device = next(model.parameters()).device
    model.eval()

    def run(tensors: Tensors) -> np.ndarray:
        with torch.inference_mode():
            logits = model(**{name: torch.from_numpy(array).to(device) for name, array in tensors.items()})
        return np.asarray(logits.float().cpu().numpy())

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


def torch_logits(model: torch.nn.Module, rows: Sequence[Row], *, encoder: Encoder) -> np.ndarray:
    """Logits, float32 (N, C), of a module on the CPU, on all cores."""
    with single_threaded():
        return logits_of(rows, encoder=encoder, run=torch_run(model), workers=num_cores())
