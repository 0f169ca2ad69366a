"""Where and how to train here: device, threads, precision, compilation and memory, measured at the start.

Measured on real batches, in turns, the best of several: other work on the machine slows all of them.
What was chosen is logged, kept with the saved state, and can be set by hand.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from noria.config import TrainConfig
from noria.errors import TrainingError
from noria.model.transformer import Block
from noria.training.state import Choices

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_REPEATS = 5
_LONGEST_S = 6.0  # of a probe, once each choice was tried
_WORTH_COMPILING_S = {"cpu": 600.0, "cuda": 180.0}  # of steps: compiling takes about a minute, and saves a fifth
_PAYS = 0.95  # of the time: a smaller gain is noise
_MOST_PARTS = 64
_GRAPHS_PER_BLOCK = 8

Pass = Callable[[torch.dtype], None]
"""Forward and backward over a typical batch, which changes nothing that lasts; it fails on all ranks or on none."""
Slowest = Callable[[float], float]
"""Of the seconds that every rank passes, the most; every rank must ask."""
Total = Callable[[Sequence[float]], list[float]]
"""Sums over the ranks; every rank must ask."""


def choose_device(config: TrainConfig, *, local_rank: int = 0) -> torch.device:
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
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if config.device == "cpu" or not torch.cuda.is_available():
        torch.set_num_threads(config.threads or num_cores())
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def num_cores() -> int:
    """That this process may use; the ranks of a host share its cores."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def choose(
    config: TrainConfig,
    *,
    device: torch.device,
    attempt: Pass,
    blocks: nn.Module,
    num_passes: int,
    slowest: Slowest = lambda seconds: seconds,
) -> Choices:
    """Precision, threads, and whether the blocks are compiled (they are, afterwards).

    Every decision rests on the time of the slowest rank, so that all ranks decide alike.

    Raises
    ------
    TrainingError
        When compilation is asked for and fails.
    """
    precisions = _precisions(config, device)
    threads = _threads(config, device)
    seconds = _time(itertools.product(precisions, threads), attempt, slowest)
    precision, num_threads = min(seconds, key=seconds.__getitem__)
    torch.set_num_threads(num_threads)
    if len(seconds) > 1:
        spent = ", ".join(f"{name} on {num} threads {1e3 * s:.0f} ms" for (name, num), s in seconds.items())
        logger.info("chose %s, threads: %d; a pass takes %s", precision, num_threads, spent)
    eager_s = seconds[precision, num_threads]
    compiled = _compiles(
        config, device, blocks, PRECISIONS[precision], attempt, slowest, eager_s=eager_s, num_passes=num_passes
    )
    return Choices(precision, num_threads, compiled)


def fitting_parts(attempt: Callable[[int], None], *, parts: int = 1, total: Total = list) -> int:
    """Into how many parts a batch must be cut to fit into memory on every rank: `attempt` runs a batch so.

    The ranks agree after each attempt. Under FSDP2 they meet inside a pass, too: one that runs out of
    memory there leaves the others waiting, until they give up and all start again.

    Raises
    ------
    TrainingError
        When not even small parts fit.
    RuntimeError, OSError
        When an attempt fails for another reason, on any rank.
    """
    while True:
        lacks = False
        failed: Exception | None = None
        try:
            attempt(parts)
        except torch.OutOfMemoryError:  # not kept: it holds on to what the pass had made
            lacks = True
        except (RuntimeError, OSError) as error:
            failed = error
        num_lacking, num_failed = total([float(lacks), float(failed is not None)])
        if num_failed:
            raise failed or RuntimeError("another rank failed")
        if not num_lacking:
            return parts
        torch.cuda.empty_cache()
        parts *= 2
        if parts > _MOST_PARTS:
            raise TrainingError(
                f"a {_MOST_PARTS}th of a batch does not fit into the memory of the device",
                where="params.yaml: train.batch_tokens",
                next_step="make the batch or the model smaller, or set `train.activation_checkpointing: true`",
            )
        logger.info("the largest batch does not fit into memory: cut into %d parts", parts)


def bytes_beside(config: TrainConfig, optimizers: Iterable[Optimizer], *, num_passes: int) -> int:
    """Memory that a pass finds taken in the midst of training, besides the parameters; on this rank, at most.

    That is the gradient (of the pass before, or in DDP's buckets), what the optimizers remember, and the
    average. Under FSDP2 the gradient is there only between the `num_passes` of a step, and whole. Not
    foreseen are what other processes take later, NCCL's own buffers, and memory in pieces too small to use.
    """
    found = 0
    for optimizer in optimizers:
        kept = (2 if isinstance(optimizer, torch.optim.Adam) else 1) + (config.average.kind != "none")
        for param in itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups):
            if param.requires_grad:
                sharded = isinstance(param, DTensor)
                found += kept * (param.to_local() if sharded else param).nbytes
                found += 0 if sharded and num_passes == 1 else param.numel() * param.element_size()
    return found


def compile_blocks(model: nn.Module, *, on: bool) -> None:
    """Compile every block of a Transformer, or go back.

    On a GPU for the shapes that come; batches of many widths, as on a CPU, for any shape at once.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for block in blocks:
        block._compiled_call_impl = None  # what Module.compile sets
        if on:
            block.compile(dynamic=None if next(block.parameters()).is_cuda else True)
    if on:  # one limit for all blocks, which share their code: some for each, in training and evaluation
        torch._dynamo.config.recompile_limit = _GRAPHS_PER_BLOCK * len(blocks)


def _precisions(config: TrainConfig, device: torch.device) -> list[str]:
    if config.precision != "auto":
        return [config.precision]
    if device.type == "cuda":
        return ["bf16" if torch.cuda.is_bf16_supported() else "fp32"]
    return ["fp32"] if config.deterministic or not cpu_has_bf16() else list(PRECISIONS)


def cpu_has_bf16() -> bool:
    """Whether the CPU's matrix kernels know bfloat16; where they don't, one pass of it takes as long as fifty."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _threads(config: TrainConfig, device: torch.device) -> list[int]:
    cores = num_cores()
    if config.threads or device.type == "cuda" or config.deterministic:
        return [config.threads or cores]
    return sorted({1, cores}, reverse=True)  # one thread wins where other processes want the cores


def _time(choices: itertools.product[tuple[str, int]], attempt: Pass, slowest: Slowest) -> dict[tuple[str, int], float]:
    seconds = dict.fromkeys(choices, math.inf)
    if len(seconds) == 1:
        return {choice: slowest(_time_alone(choice, attempt)) for choice in seconds}
    begun = math.inf
    for number in range(_REPEATS + 1):
        for precision, num_threads in seconds:
            torch.set_num_threads(num_threads)
            start = time.perf_counter()
            attempt(PRECISIONS[precision])
            if number:  # the first is a warm-up
                seconds[precision, num_threads] = min(seconds[precision, num_threads], time.perf_counter() - start)
        begun = min(begun, time.perf_counter())
        if number and slowest(time.perf_counter() - begun) > _LONGEST_S:
            break
    return {choice: slowest(best) for choice, best in seconds.items()}


def _time_alone(choice: tuple[str, int], attempt: Pass) -> float:
    """Also without a choice: compiling must know how long a pass takes."""
    torch.set_num_threads(choice[1])
    best = math.inf
    for _ in range(2):
        start = time.perf_counter()
        attempt(PRECISIONS[choice[0]])
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def _compiles(
    config: TrainConfig,
    device: torch.device,
    blocks: nn.Module,
    dtype: torch.dtype,
    attempt: Pass,
    slowest: Slowest,
    *,
    eager_s: float,
    num_passes: int,
) -> bool:
    total_s = eager_s * num_passes
    long_enough = total_s > _WORTH_COMPILING_S[device.type] and not config.deterministic
    if config.compile == "off" or (config.compile == "auto" and not long_enough):
        return False
    compile_blocks(blocks, on=True)
    start = time.perf_counter()
    try:
        best_s = slowest(_best_of(attempt, dtype))
    except (RuntimeError, OSError) as error:  # no C++ compiler, or a graph it can't do
        compile_blocks(blocks, on=False)
        if config.compile == "on":
            raise TrainingError(
                f"the blocks can't be compiled: {error}",
                where="params.yaml: train.compile",
                next_step="install a C++ compiler (g++), or set `train.compile: off`",
            ) from error
        logger.info("not compiled: %s", str(error).splitlines()[0])
        return False
    pays = config.compile == "on" or best_s < _PAYS * eager_s
    compile_blocks(blocks, on=pays)
    logger.info(
        "%s: a pass takes %.0f ms compiled, %.0f ms as it is; compiling took %.0f s of about %.0f s",
        "compiled" if pays else "not compiled",
        1e3 * best_s,
        1e3 * eager_s,
        time.perf_counter() - start,
        total_s,
    )
    return pays


def _best_of(attempt: Pass, dtype: torch.dtype) -> float:
    best = math.inf
    for _ in range(_REPEATS):
        start = time.perf_counter()
        attempt(dtype)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
