"""What a training uses: time, memory, energy, money, and the share of a GPU's peak that it reaches.

Nothing here runs at a step: a meter is read when a point of the curves is recorded, and at the end.
"""

from __future__ import annotations

import ctypes
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from noria.config import ModelConfig

if TYPE_CHECKING:
    import torch

PEAK_FLOPS: Mapping[str, float] = {
    "V100 PCIE": 112e12,
    "V100": 125e12,
    "A10": 125e12,
    "A100": 312e12,
    "L4": 121e12,
    "L40S": 362e12,
    "RTX 4090": 165.2e12,
    "H100 PCIE": 756.5e12,
    "H100 NVL": 835.5e12,
    "H100": 989.5e12,
    "H200 NVL": 835.5e12,
    "H200": 989.5e12,
    "B200": 2_250e12,
}
"""Words of a device's name -> peak FLOP/s of its matrix units in bf16, without sparsity.

From the vendors' data sheets, which give twice as much, "with sparsity", from Hopper on. The V100
has no bf16: that is its fp16. The RTX 4090's is with fp32 accumulation, as training uses it.
"""
_NOT_THAT_ONE = frozenset({"LAPTOP", "MIG", "D"})  # slower devices whose names hold the words of a faster one


@dataclass(frozen=True)
class Usage:
    """What was used so far; a plain dict by `asdict(usage)`, and back by `Usage(**values)`.

    Attributes
    ----------
    wall_s, cpu_s:
        Seconds by the clock, and of all threads of the process (not of its children).
    peak_memory_bytes:
        Largest resident memory of the process, that of what ran in it before included.
    peak_gpu_memory_bytes:
        Largest memory that PyTorch's allocator gave out on the device; None without CUDA.
    gpu_energy_j:
        Joules by NVML's counter of the device, whoever used it; None where there is no such counter.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    peak_gpu_memory_bytes: int | None = None
    gpu_energy_j: float | None = None


class Meter:
    """Counts from when it is made, on top of `previous`: what earlier runs of a resumed training used.

    A killed run's work after its last save is in no `previous`: it is lost, and counted when done again.
    """

    def __init__(self, device: torch.device, *, previous: Usage | None = None) -> None:
        self._device = device
        self._previous = previous or Usage()
        self._energy_j = _energy_counter(device)
        self._start_s, self._start_cpu_s = time.perf_counter(), time.process_time()
        self._start_j = self._energy_j()

    def read(self) -> Usage:
        """Everything used so far."""
        before, now_j = self._previous, self._energy_j()
        spent_j = None if now_j is None or self._start_j is None else now_j - self._start_j
        before_j = before.gpu_energy_j if before.wall_s else 0.0
        return Usage(
            wall_s=before.wall_s + time.perf_counter() - self._start_s,
            cpu_s=before.cpu_s + time.process_time() - self._start_cpu_s,
            peak_memory_bytes=max(before.peak_memory_bytes, _peak_memory_bytes()),
            peak_gpu_memory_bytes=_largest(before.peak_gpu_memory_bytes, _peak_gpu_memory_bytes(self._device)),
            gpu_energy_j=None if spent_j is None or before_j is None else before_j + spent_j,
        )


def over_ranks(usages: Sequence[Usage]) -> Usage:
    """What the ranks of one run used together: times of the clock overlap, peaks are of the largest rank."""
    joules = [usage.gpu_energy_j for usage in usages if usage.gpu_energy_j is not None]
    return Usage(
        wall_s=max(usage.wall_s for usage in usages),
        cpu_s=sum(usage.cpu_s for usage in usages),
        peak_memory_bytes=max(usage.peak_memory_bytes for usage in usages),
        peak_gpu_memory_bytes=_largest(*(usage.peak_gpu_memory_bytes for usage in usages)),
        gpu_energy_j=sum(joules) if len(joules) == len(usages) else None,
    )


def resources_of(usage: Usage, *, price_per_hour: float, nodes: int) -> dict[str, object]:
    """What is known of a usage, by name, and its cost on `nodes` machines of that price; a price of 0 is unknown."""
    known: dict[str, object] = {name: value for name, value in asdict(usage).items() if value is not None}
    return known | ({"cost": usage.wall_s / 3600 * price_per_hour * nodes} if price_per_hour else {})


def flops_per_token(
    config: ModelConfig,
    *,
    length: float,
    vocabulary_size: int = 0,
    output_share: float = 1.0,
    memory_length: float = 0.0,
) -> float:
    """Floating-point operations per token, forward and backward, of one stack of blocks and its output.

    6 per parameter of a matrix (2 forward, 4 backward; Kaplan et al. 2020, arXiv:2001.08361, 2.1) and
    12 * layers * dim * length for attention (Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix
    B). As there, a causal mask halves nothing, and what is computed twice (activation checkpointing)
    counts once. An encoder-decoder is two stacks.

    Parameters
    ----------
    length:
        Mean length of the sequences that attend to themselves.
    vocabulary_size, output_share:
        Size of the output over tokens (0: there is none), and the share of positions that it is computed at.
    memory_length:
        Mean length of what cross-attention reads; 0 without it.
    """
    square = config.dim**2
    matrices: float = 4 * square + 2 * config.dim * config.feed_forward_dim
    if memory_length:  # queries and output at every token; keys and values at every position of the memory
        matrices += 2 * square + 2 * square * memory_length / length
    output = output_share * vocabulary_size * config.dim
    attention = 12 * config.layers * config.dim * (length + memory_length)
    return 6 * (config.layers * matrices + output) + attention


def peak_flops(device_name: str) -> float | None:
    """Peak of the device that `torch.cuda.get_device_name` names so; None when it isn't known."""
    words = set(re.findall(r"[A-Z0-9]+", device_name.upper()))
    if words & _NOT_THAT_ONE:
        return None
    return next((peak for name, peak in PEAK_FLOPS.items() if words.issuperset(name.split())), None)


def mfu(tokens_per_s: float, flops_per_token: float, device_name: str, *, num_devices: int = 1) -> float | None:
    """Model FLOPs utilization: the share of the devices' peak that the model's own operations reach."""
    peak = peak_flops(device_name)
    return None if peak is None else tokens_per_s * flops_per_token / (peak * num_devices)


def _largest(*sizes: int | None) -> int | None:
    return max((size for size in sizes if size is not None), default=None)


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux kibibytes


def _peak_gpu_memory_bytes(device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated(device)


def _energy_counter(device: torch.device) -> Callable[[], float | None]:
    """Reads the joules that the GPU has used since its driver was loaded (Volta or newer).

    NVML is part of the driver, so this asks it directly and needs no package.
    """
    if device.type != "cuda":
        return lambda: None
    import torch

    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return lambda: None
    handle = ctypes.c_void_p()
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)):
        return lambda: None

    def read() -> float | None:
        millijoules = ctypes.c_ulonglong()
        failed = nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1e3

    return read
