"""Where and how to train here: device, threads, and the faster precision, measured."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable

import torch

from noria.config import TrainConfig
from noria.errors import TrainingError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_REPEATS = 6


def choose_device(config: TrainConfig) -> torch.device:
    """CUDA when there is one, unless the configuration says otherwise.

    Raises
    ------
    TrainingError
        When `cuda` is asked for and absent.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError(
            "there is no CUDA device",
            where="params.yaml: train.device",
            expected="auto or cpu here",
            next_step="set `train.device: auto`",
        )
    if config.device == "cpu" or not torch.cuda.is_available():
        torch.set_num_threads(config.threads or len(os.sched_getaffinity(0)))
        return torch.device("cpu")
    return torch.device("cuda")


def choose_precision(config: TrainConfig, *, device: torch.device, attempt: Callable[[torch.dtype], None]) -> str:
    """`fp32` or `bf16`: as configured; bf16 on a GPU; on the CPU whichever runs `attempt` faster.

    `attempt` does one forward and backward pass of a typical batch and changes nothing that lasts.
    """
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    seconds = dict.fromkeys(PRECISIONS, math.inf)
    for _ in range(_REPEATS):  # in turns, and the best of each: other work on the machine slows both
        for name, dtype in PRECISIONS.items():
            start = time.perf_counter()
            attempt(dtype)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    best = min(seconds, key=seconds.__getitem__)
    spent = ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in seconds.items())
    logger.info("precision %s: a pass takes %s on %d threads", best, spent, torch.get_num_threads())
    return best
