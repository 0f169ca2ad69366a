"""Losses as sums over targets: the loop divides by the number of targets of a whole step.

Where logits are a product with a large matrix they are made, and their gradient with them, chunk by chunk.

Shapes: N targets, C classes or outputs, D model dimension, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from noria.config import TrainConfig

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs float32 (N, C), class numbers int64 (N) or values float32 (N, C)) -> a scalar."""


class Projected(NamedTuple):
    """Logits x W^T + b (N, V) that are yet to be made, of x (N, D), W (V, D) and b (V)."""

    vectors: Tensor
    weights: Tensor
    bias: Tensor


Said = Tensor | Projected
"""Logits float32, a distribution along the last axis; or what makes them."""

_CHUNK_CELLS = {"cpu": 2**23, "cuda": 2**28}
"""Of float32 logits that exist at once: 32 MB, for the caches; 1 GB, for few passes over the gradient of the weight."""


def cross_entropy(logits_NC: Tensor, classes_N: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Sum of cross entropies, `label_smoothing` of the target spread over all classes."""
    return F.cross_entropy(logits_NC, classes_N, reduction="sum", label_smoothing=label_smoothing)


def squared_error(outputs_NC: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows of the mean squared error; class numbers stand for their indicators."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets, outputs_NC.shape[-1]).to(outputs_NC.dtype)
    return (outputs_NC - targets).square().mean(-1).sum()


def distillation(said: Said, taught: Said, *, temperature: float) -> Tensor:
    """Sum of T² KL(teacher || student), both softened by T (Hinton et al. 2015, arXiv:1503.02531)."""
    if isinstance(said, Projected):
        assert isinstance(taught, Projected)
        out: Tensor = _ProjectedDistillation.apply(*said, *taught, temperature)  # type: ignore[no-untyped-call]
        return out
    assert isinstance(taught, Tensor)
    return _divergence(said, taught, temperature)


def _divergence(logits_NC: Tensor, teacher_NC: Tensor, temperature: float) -> Tensor:
    student_NC = F.log_softmax(logits_NC / temperature, -1)
    softened_NC = F.log_softmax(teacher_NC / temperature, -1)
    return temperature**2 * F.kl_div(student_NC, softened_NC, reduction="sum", log_target=True)


def build_loss(config: TrainConfig) -> Loss:
    """The loss that the configuration names."""
    if config.loss == "mse":
        return squared_error
    return lambda logits, classes: cross_entropy(logits, classes, label_smoothing=config.label_smoothing)


def linear_cross_entropy(
    x_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, bias_V: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Sum of the cross entropies of x W^T + b, of which only a chunk exists at a time.

    The gradient is computed along with the loss, so logits are made once and never kept: memory is
    that of one chunk, whatever the vocabulary (Hsu et al. 2024, arXiv:2410.10989). Matrix products
    are in the dtype of `x_ND`, the softmax in float32.
    """
    out: Tensor = _LinearCrossEntropy.apply(x_ND, weight_VD, targets_N, bias_V, label_smoothing)  # type: ignore[no-untyped-call]
    return out


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own context
        x_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        bias_V: Tensor | None,
        label_smoothing: float,
    ) -> Tensor:
        weight = weight_VD.to(x_ND.dtype)
        total = torch.zeros((), device=x_ND.device)
        grad_x = torch.empty_like(x_ND)
        grad_weight = torch.zeros_like(weight_VD)
        grad_bias = torch.zeros_like(weight_VD[:, 0])
        slope_of = _slope_on_gpu if x_ND.is_cuda else _slope_on_cpu
        size = max(1, _CHUNK_CELLS[x_ND.device.type] // len(weight))
        chunks = (torch.split(tensor, size) for tensor in (x_ND, targets_N, grad_x))
        for x, targets, grad in zip(*chunks, strict=True):
            loss, slope = slope_of(x, weight, bias_V, targets, label_smoothing)
            total += loss
            grad_bias += slope.sum(0, dtype=grad_bias.dtype)
            slope = slope.to(x.dtype)
            grad.copy_(slope @ weight)
            grad_weight += slope.mT @ x
        ctx.save_for_backward(grad_x, grad_weight, grad_bias if bias_V is not None else None)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        grad_x, grad_weight, grad_bias = ctx.saved_tensors
        bias = None if grad_bias is None else grad * grad_bias
        return (grad * grad_x).to(grad_x.dtype), grad * grad_weight, None, bias, None


def _slope_on_cpu(
    x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """The loss and its gradient by the logits, float32 (N, V), which stay in the caches."""
    logits = (x_ND @ weight_VD.mT).float()
    if bias_V is not None:
        logits += bias_V
    logits -= logits.logsumexp(-1, keepdim=True)
    picked = logits.gather(-1, targets_N[:, None])
    loss = _smoothed(picked, logits, smoothing)
    slope = logits.exp_()
    slope.scatter_add_(-1, targets_N[:, None], torch.full_like(picked, smoothing - 1))
    if smoothing:
        slope -= smoothing / len(weight_VD)
    return loss, slope


def _slope_on_gpu(
    x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, targets_N: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """The same, in the dtype of `x_ND`: what counts are the passes over memory, so the logits are read once in
    float32, by the kernel that normalizes them, and overwritten by the gradient.
    """
    logits = F.linear(x_ND, weight_VD, None if bias_V is None else bias_V.to(x_ND.dtype))
    said = torch.log_softmax(logits, -1, dtype=torch.float32)
    picked = said.gather(-1, targets_N[:, None])
    loss = _smoothed(picked, said, smoothing)
    slope = torch.exp(said, out=logits)
    slope.scatter_(-1, targets_N[:, None], (picked.exp() + (smoothing - 1)).to(slope.dtype))
    if smoothing:
        slope -= smoothing / len(weight_VD)
    return loss, slope


def _smoothed(picked_N1: Tensor, said_NV: Tensor, smoothing: float) -> Tensor:
    loss = -(1 - smoothing) * picked_N1.sum()
    return loss - smoothing / said_NV.shape[-1] * said_NV.sum() if smoothing else loss


class _ProjectedDistillation(torch.autograd.Function):
    """The gradient by the student's logits is T (softmax(student / T) - softmax(teacher / T))."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own context
        x_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor,
        teacher_x_ND: Tensor,
        teacher_weight_VD: Tensor,
        teacher_bias_V: Tensor,
        temperature: float,
    ) -> Tensor:
        total = torch.zeros((), device=x_ND.device)
        grad_x, grad_weight, grad_bias = (torch.zeros_like(part) for part in (x_ND, weight_VD, bias_V))
        weight, teacher_weight = weight_VD.to(x_ND.dtype), teacher_weight_VD.to(teacher_x_ND.dtype)
        size = max(1, _CHUNK_CELLS[x_ND.device.type] // len(weight))
        chunks = (torch.split(tensor, size) for tensor in (x_ND, teacher_x_ND, grad_x))
        for x, teacher_x, grad in zip(*chunks, strict=True):
            student = ((x @ weight.mT).float() + bias_V).div_(temperature).log_softmax(-1)
            teacher = ((teacher_x @ teacher_weight.mT).float() + teacher_bias_V).div_(temperature).log_softmax(-1)
            total += temperature**2 * F.kl_div(student, teacher, reduction="sum", log_target=True)
            slope = student.exp_().sub_(teacher.exp_()).mul_(temperature)
            grad_bias += slope.sum(0)
            slope = slope.to(x.dtype)
            grad.copy_(slope @ weight)
            grad_weight += slope.mT @ x
        ctx.save_for_backward(grad_x, grad_weight, grad_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        grad_x, grad_weight, grad_bias = ctx.saved_tensors
        return (grad * grad_x).to(grad_x.dtype), grad * grad_weight, grad * grad_bias, None, None, None, None
