"""PyTorch as the thing that runs a batch."""

from __future__ import annotations

import numpy as np
import torch

from noria.evaluation.inference import Run
from noria.scenarios.base import Tensors


def torch_run(model: torch.nn.Module) -> Run:
    """Run batches through a module, on the device it is on, without gradients or dropout."""
    device = next(model.parameters()).device
    model.eval()

    def run(tensors: Tensors) -> np.ndarray:
        with torch.inference_mode():
            logits = model(**{name: torch.from_numpy(array).to(device) for name, array in tensors.items()})
        return np.asarray(logits.float().cpu().numpy())

    return run
