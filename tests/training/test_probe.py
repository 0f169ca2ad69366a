"""What is faster here is measured, and memory found by halving."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from training_fixtures import branch, labels, phase_of, run_of, some_tokens, step, tiny_config

from noria.errors import TrainingError
from noria.training import probe
from noria.training.averaging import Average
from noria.training.probe import bytes_beside, choose, choose_device, compile_blocks, fitting_parts, num_cores

CPU = torch.device("cpu")


@pytest.mark.parametrize(("fast", "slow"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_the_faster_precision_is_chosen(fast: str, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "cpu_has_bf16", lambda: True)
    seconds = {probe.PRECISIONS[fast]: 0.001, probe.PRECISIONS[slow]: 0.03}
    config = tiny_config(precision="auto", threads=1).train
    chosen = choose(
        config, device=CPU, attempt=lambda dtype: time.sleep(seconds[dtype]), blocks=nn.Module(), num_passes=1
    )
    assert (chosen.precision, chosen.threads, chosen.compiled) == (fast, 1, False)


@pytest.mark.skipif(num_cores() == 1, reason="one core leaves no choice")
@pytest.mark.parametrize("one_is_faster", [True, False])
def test_the_faster_number_of_threads_is_chosen(one_is_faster: bool) -> None:
    def attempt(dtype: torch.dtype) -> None:
        time.sleep(0.001 if (torch.get_num_threads() == 1) == one_is_faster else 0.03)

    config = tiny_config(precision="fp32", threads=0).train
    chosen = choose(config, device=CPU, attempt=attempt, blocks=nn.Module(), num_passes=1)
    assert chosen.threads == (1 if one_is_faster else num_cores()) == torch.get_num_threads()


def test_bfloat16_is_not_even_tried_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "cpu_has_bf16", lambda: False)
    tried: list[torch.dtype] = []
    config = tiny_config(precision="auto", threads=1).train
    chosen = choose(config, device=CPU, attempt=tried.append, blocks=nn.Module(), num_passes=1)
    assert chosen.precision == "fp32" and set(tried) == {torch.float32}


def test_what_is_set_by_hand_is_not_probed() -> None:
    config = tiny_config(precision="bf16", threads=1).train
    tried: list[torch.dtype] = []
    chosen = choose(config, device=CPU, attempt=tried.append, blocks=nn.Module(), num_passes=1)
    assert (chosen.precision, chosen.threads) == ("bf16", 1)
    assert set(tried) == {torch.bfloat16}


def test_a_deterministic_training_asks_no_clock() -> None:
    config = tiny_config(precision="auto", threads=0, deterministic=True).train
    slow_fp32 = {torch.float32: 0.02, torch.bfloat16: 0.0}
    chosen = choose(
        config, device=CPU, attempt=lambda dtype: time.sleep(slow_fp32[dtype]), blocks=nn.Module(), num_passes=10**9
    )
    assert (chosen.precision, chosen.threads, chosen.compiled) == ("fp32", num_cores(), False)


def test_a_short_run_is_not_compiled_and_a_long_one_tries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = branch()
    compiled: list[bool] = []
    monkeypatch.setattr(probe, "compile_blocks", lambda model, *, on: compiled.append(on))
    config = tiny_config(precision="fp32", threads=1).train
    for num_passes in (100, 10**9):
        choose(config, device=CPU, attempt=lambda dtype: time.sleep(0.001), blocks=deep.encoder, num_passes=num_passes)
        assert bool(compiled) == (num_passes > 100)


@pytest.mark.parametrize("fitting", [1, 3, 5])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(fitting: int) -> None:
    rows, tried = 40, []

    def attempt(parts: int) -> None:
        tried.append(parts)
        if -(-rows // parts) > rows // fitting:
            raise torch.OutOfMemoryError("CUDA out of memory")

    parts = fitting_parts(attempt)
    assert parts == {1: 1, 3: 4, 5: 8}[fitting] == tried[-1]
    assert all(second == 2 * first for first, second in pairwise(tried))


def test_a_row_that_never_fits_is_an_error_that_says_what_to_change() -> None:
    def attempt(parts: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match="does not fit into the memory") as caught:
        fitting_parts(attempt)
    assert "batch_tokens" in str(caught.value) and "activation_checkpointing" in str(caught.value)


def test_another_fault_is_not_taken_for_a_lack_of_memory() -> None:
    def attempt(parts: int) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        fitting_parts(attempt)


def test_what_one_rank_lacks_or_fails_at_is_the_same_on_all() -> None:
    """Seen from a rank on which nothing goes wrong, beside another."""
    tried: list[int] = []

    def other_lacks(values: Sequence[float]) -> list[float]:
        return [values[0] + (tried[-1] < 4), values[1]]

    assert fitting_parts(tried.append, total=other_lacks) == 4 and tried == [1, 2, 4]
    with pytest.raises(RuntimeError, match="another rank failed"):
        fitting_parts(tried.append, total=lambda values: [values[0], values[1] + 1])


@pytest.mark.parametrize("kind", ["none", "ema"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_memory_is_counted_for_all_that_training_keeps(optimizer: str, kind: str) -> None:
    deep = branch()
    deep.masked_token_head.requires_grad_(False)  # as the labels do not use it
    config = tiny_config(average={"kind": kind}).train
    run = run_of(phase_of(labels(some_tokens(), batch_tokens=64), deep, lr=1e-3), optimizer=optimizer)
    run = replace(run, average=Average(config.average, deep, num_steps=9))
    counted = bytes_beside(config, run.optimizers, num_passes=1)
    step(run, 0)
    states = [value for chosen in run.optimizers for values in chosen.state.values() for value in values.values()]
    gradients = [param for param in deep.parameters() if param.requires_grad]
    kept = [tensor for tensor in (*states, *run.average.tensors.values(), *gradients) if tensor.ndim]
    assert counted == sum(tensor.nbytes for tensor in kept)


def test_threads_that_are_set_are_taken() -> None:
    assert choose_device(tiny_config(device="cpu", threads=1).train) == CPU
    assert torch.get_num_threads() == 1


@pytest.mark.slow
def test_compiled_blocks_give_the_same_loss_and_gradients() -> None:
    tokens = torch.randint(3, 50, (4, 16))
    found = []
    for on in (False, True, False):
        deep = branch(layers=2)
        compile_blocks(deep.encoder, on=on)
        loss = deep(tokens).square().sum()
        loss.backward()
        found.append((loss.detach(), deep.frontend.tokens.grad))
    for loss, grad in found[1:]:
        torch.testing.assert_close(loss, found[0][0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(grad, found[0][1], atol=1e-5, rtol=1e-4)
