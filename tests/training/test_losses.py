"""Losses are sums of the definition, and the chunked one is the same function as the plain one."""

import pytest
import torch
import torch.nn.functional as F
from training_fixtures import tiny_config

from noria.model.heads import PooledHead
from noria.training import losses
from noria.training.losses import build_loss, cross_entropy, distillation, linear_cross_entropy, squared_error


def test_losses_are_sums_of_the_definition() -> None:
    torch.manual_seed(0)
    logits, classes = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    log_share = logits.log_softmax(-1)
    smooth = 0.9 * log_share[torch.arange(6), classes] + 0.1 * log_share.mean(-1)
    torch.testing.assert_close(cross_entropy(logits, classes, label_smoothing=0.1), -smooth.sum())
    expected = ((logits - torch.eye(3)[classes]) ** 2).sum() / 3
    torch.testing.assert_close(squared_error(logits, classes), expected)
    torch.testing.assert_close(squared_error(logits, torch.eye(3)[classes]), expected)


def test_distillation_is_the_divergence_of_softened_answers() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    torch.testing.assert_close(distillation(student, teacher, temperature=2.0), 4 * (p * (p / q).log()).sum())
    assert float(distillation(teacher, teacher, temperature=2.0)) == pytest.approx(0.0, abs=1e-6)


def test_the_configuration_names_the_loss() -> None:
    logits, classes = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    smoothed = build_loss(tiny_config(label_smoothing=0.2).train)(logits, classes)
    torch.testing.assert_close(smoothed, cross_entropy(logits, classes, label_smoothing=0.2))
    torch.testing.assert_close(
        build_loss(tiny_config(loss="mse").train)(logits, classes), squared_error(logits, classes)
    )


def test_a_head_with_one_output_and_a_squared_loss_regresses() -> None:
    torch.manual_seed(0)
    head, real = PooledHead(8, 1), torch.ones(32, 5, dtype=torch.bool)
    x = torch.randn(32, 5, 8)
    values = x.mean(1)[:, :1] * 2 + 1
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss = squared_error(head(x, real), values) / 32
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01


def both(
    num_targets: int, *, biased: bool, label_smoothing: float, dtype: torch.dtype
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Value and gradients of the chunked loss, and of PyTorch's own; the sum is weighted, as the loop does it."""
    found = []
    for chunked in (True, False):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(num_targets, 8, generator=generator).to(dtype).requires_grad_()
        weight = torch.randn(11, 8, generator=generator).requires_grad_()
        bias = torch.randn(11, generator=generator).requires_grad_() if biased else None
        targets = torch.randint(0, 11, (num_targets,), generator=generator)
        if chunked:
            loss = linear_cross_entropy(x, weight, targets, bias, label_smoothing=label_smoothing)
        else:
            logits = F.linear(x, weight.to(dtype)).float() + (0.0 if bias is None else bias)
            loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)
        (loss * 0.3).backward()
        grads = [tensor.grad for tensor in (x, weight, bias) if tensor is not None]
        found.append([loss.detach(), *(grad for grad in grads if grad is not None)])
    return found[0], found[1]


@pytest.mark.parametrize("num_targets", [1, 7, 30])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("slope", [losses._slope_on_cpu, losses._slope_on_gpu])
def test_the_chunked_loss_has_the_value_and_the_gradients_of_the_plain_one(
    num_targets: int, biased: bool, label_smoothing: float, slope: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_slope_on_cpu", slope)
    monkeypatch.setitem(losses._CHUNK_CELLS, "cpu", 4 * 11)  # four targets at a time
    ours, theirs = both(num_targets, biased=biased, label_smoothing=label_smoothing, dtype=torch.float32)
    assert len(ours) == len(theirs) == 3 + biased
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("slope", [losses._slope_on_cpu, losses._slope_on_gpu])
def test_in_bfloat16_the_chunked_loss_is_as_near_as_the_precision_allows(
    slope: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_slope_on_cpu", slope)
    monkeypatch.setitem(losses._CHUNK_CELLS, "cpu", 4 * 11)
    ours, theirs = both(30, biased=True, label_smoothing=0.1, dtype=torch.bfloat16)
    assert ours[1].dtype == torch.bfloat16 and ours[2].dtype == torch.float32
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=0.03, rtol=0.03)


def test_no_targets_are_no_loss_and_no_gradient() -> None:
    ours, _ = both(0, biased=True, label_smoothing=0.1, dtype=torch.float32)
    assert float(ours[0]) == 0.0
    assert all(not grad.any() for grad in ours[1:])


def test_logits_that_would_overflow_do_not() -> None:
    x, weight = torch.full((2, 1), 1e4), torch.tensor([[1.0], [-1.0]])
    assert float(linear_cross_entropy(x, weight, torch.tensor([0, 0]))) == 0.0
    assert float(linear_cross_entropy(x, weight, torch.tensor([1, 1]))) == pytest.approx(4e4)
