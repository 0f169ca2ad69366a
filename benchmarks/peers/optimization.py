"""Precision, seeds and schedules, for the loops that are written here and not by a peer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.peers.settings import Settings


def prepare_torch(settings: Settings) -> torch.device:
    """Threads and seed, and TF32 on a GPU; returns the device."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    torch.set_float32_matmul_precision("high" if torch.cuda.is_available() else "highest")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(settings: Settings, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where asked for."""
    return torch.autocast(device.type, torch.bfloat16) if settings.precision == "bf16" else nullcontext()


def schedule(optimizer: torch.optim.Optimizer, settings: Settings) -> LambdaLR:
    """Linear warm-up, then constant, linear to 0 or a half cosine to 0."""

    def factor(step: int) -> float:
        if step < settings.lr_warmup_steps:
            return (step + 1) / settings.lr_warmup_steps
        done = (step - settings.lr_warmup_steps) / max(1, settings.steps - settings.lr_warmup_steps)
        falling = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * min(1.0, done))) / 2}
        return max(0.0, falling[settings.schedule])

    return LambdaLR(optimizer, factor)


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """By name; `relu2` is the squared ReLU (So et al. 2021, arXiv:2109.08668)."""
    known: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "relu2": _squared_relu}
    return known[name]


def _squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


@torch.no_grad()
def mean_loss(
    model: nn.Module, batches: Iterable[dict[str, Tensor]], loss: Callable[[dict[str, Tensor]], tuple[Tensor, int]]
) -> float:
    """Sum of losses over the sum of their numbers, in evaluation mode; `loss` gives both for a batch."""
    training = model.training
    model.eval()
    parts = [loss(batch) for batch in batches]
    model.train(training)
    return float(sum(float(total) for total, _ in parts) / sum(number for _, number in parts))
