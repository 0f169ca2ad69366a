import time
from dataclasses import asdict

import pytest
import torch

from noria.config import ModelConfig
from noria.model.transformer import Decoder, Encoder
from noria.training.meter import Meter, Usage, flops_per_token, mfu, over_ranks, peak_flops, resources_of

CPU = torch.device("cpu")


def matrix_parameters(module: torch.nn.Module) -> int:
    return sum(param.numel() for param in module.parameters() if param.ndim > 1)


def test_without_attention_it_is_six_operations_per_parameter_of_a_matrix() -> None:
    config = ModelConfig(layers=3, dim=32, heads=2, feed_forward_dim=80)
    expected = 6 * (matrix_parameters(Encoder(config)) + 0.25 * 100 * 32)
    assert flops_per_token(config, length=0, vocabulary_size=100, output_share=0.25) == expected
    longer = flops_per_token(config, length=10, vocabulary_size=100, output_share=0.25)
    assert longer - expected == 12 * 3 * 32 * 10


def test_a_decoder_over_a_memory_of_its_length_counts_every_matrix_once_and_attends_twice() -> None:
    config = ModelConfig(layers=2, dim=32, heads=2, feed_forward_dim=80)
    expected = 6 * matrix_parameters(Decoder(config, cross=True)) + 2 * 12 * 2 * 32 * 7
    assert flops_per_token(config, length=7, memory_length=7) == expected


def test_operations_are_those_that_pytorch_counts() -> None:
    """Forward: a third of all. PyTorch's counter knows matrix products and attention, as the formula does."""
    from torch.utils.flop_counter import FlopCounterMode

    config = ModelConfig(layers=2, dim=32, heads=2, feed_forward_dim=80)
    x, real = torch.randn(2, 16, 32), torch.ones(2, 16, dtype=torch.bool)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        Encoder(config)(x, real)
    assert counter.get_total_flops() / 32 == pytest.approx(flops_per_token(config, length=16) / 3)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-32GB", 112),
        ("NVIDIA A10", 125),
        ("NVIDIA A10G", None),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", None),
        ("NVIDIA L40S", 362),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA B200", 2250),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("cpu", None),
    ],
)
def test_a_peak_is_known_by_the_words_of_a_name_or_not_at_all(name: str, teraflops: float | None) -> None:
    assert peak_flops(name) == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_mfu_is_a_share_of_all_devices_and_unknown_on_unknown_ones() -> None:
    assert mfu(1e6, 156e6, "NVIDIA A100-SXM4-40GB") == pytest.approx(0.5)
    assert mfu(1e6, 156e6, "NVIDIA A100-SXM4-40GB", num_devices=2) == pytest.approx(0.25)
    assert mfu(1e6, 156e6, "cpu") is None


def test_usage_adds_up_over_resumed_runs() -> None:
    first = Meter(CPU)
    busy_until = time.process_time() + 0.05
    while time.process_time() < busy_until:
        pass
    before = first.read()
    assert before.wall_s >= 0.04 and before.cpu_s >= 0.05 and before.peak_memory_bytes > 10_000_000
    resumed = Meter(CPU, previous=Usage(**asdict(before)))
    after = resumed.read()
    assert after.wall_s >= before.wall_s and after.cpu_s >= before.cpu_s
    assert after.wall_s < before.wall_s + 1
    assert after.peak_memory_bytes >= before.peak_memory_bytes


def test_without_a_gpu_its_energy_and_memory_are_unknown_and_no_error() -> None:
    usage = Meter(CPU, previous=Usage(wall_s=5, peak_gpu_memory_bytes=7, gpu_energy_j=100.0)).read()
    assert usage.gpu_energy_j is None  # the part on this machine can't be added
    assert usage.peak_gpu_memory_bytes == 7
    assert resources_of(Meter(CPU).read(), price_per_hour=0, nodes=1).keys() == {"wall_s", "cpu_s", "peak_memory_bytes"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_energy_and_memory_are_counted() -> None:
    meter = Meter(torch.device("cuda"))
    x = torch.randn(4096, 4096, device="cuda")
    until = time.monotonic() + 1
    while time.monotonic() < until:
        x = torch.nn.functional.normalize(x @ x)
        torch.cuda.synchronize()
    usage = meter.read()
    assert usage.peak_gpu_memory_bytes is not None and usage.peak_gpu_memory_bytes >= 4096 * 4096 * 4
    assert usage.gpu_energy_j is not None and usage.gpu_energy_j > 10


def test_cost_is_shown_when_the_price_is_known() -> None:
    assert resources_of(Usage(wall_s=1800), price_per_hour=3.0, nodes=1)["cost"] == pytest.approx(1.5)
    assert resources_of(Usage(wall_s=1800), price_per_hour=3.0, nodes=4)["cost"] == pytest.approx(6.0)
    assert "cost" not in resources_of(Usage(wall_s=1800), price_per_hour=0.0, nodes=4)


def test_ranks_share_the_clock_and_add_up_the_rest() -> None:
    ranks = [Usage(wall_s=10, cpu_s=9, peak_memory_bytes=5, gpu_energy_j=1.0), Usage(11, 8, 6, 3, 2.0)]
    assert over_ranks(ranks) == Usage(11, 17, 6, 3, 3.0)
    assert over_ranks([*ranks, Usage()]).gpu_energy_j is None
