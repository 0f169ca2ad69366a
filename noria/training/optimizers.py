"""SGD, Adam, AdamW and Muon, built from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from noria.model.lora import LowRank
from noria.training.distributed import sharded_like, whole
from noria.training.probe import cpu_has_bf16

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_BETAS = (0.9, 0.98)


def orthogonalize(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: singular values go to about 0.7 to 1.2.

    Newton-Schulz iteration with the quintic coefficients of Jordan et al. 2024
    (https://kellerjordan.github.io/posts/muon/), in bfloat16 where the device knows it: a CPU that does not takes
    many times as long for it. `matrices`: float (N, R, C); so is the result.
    """
    a, b, c = _NEWTON_SCHULZ
    x: Tensor = matrices.float() if matrices.device.type == "cpu" and not cpu_has_bf16() else matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(Optimizer):
    """Momentum, orthogonalized, for matrices: parameters of shape (R, C) or (N, R, C), N matrices in one.

    Jordan et al. 2024; Nesterov momentum, decoupled weight decay, and an update scaled by
    sqrt(max(1, R / C)). Matrices of one shape are orthogonalized together.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            for params in _by_shape(group["params"]):
                self._update(params, group)

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        skip = getattr(self, "found_inf", None)  # as PyTorch's fused optimizers: decided on the device, without waiting
        applied = 1.0 if skip is None else 1.0 - skip
        updates = []
        for param in params:
            assert param.grad is not None
            grad = param.grad if skip is None else param.grad.masked_fill(skip.bool(), 0.0)
            if "momentum" not in self.state[param]:
                self.state[param]["momentum"] = torch.zeros_like(param)
            momentum = self.state[param]["momentum"]
            momentum.lerp_(grad, (1 - group["momentum"]) * applied)
            updates.append(_as_matrices(whole(grad.lerp(momentum, group["momentum"]))))
        sizes = [len(update) for update in updates]
        rows, columns = updates[0].shape[-2:]
        scale = max(1.0, rows / columns) ** 0.5
        for param, update in zip(params, torch.split(orthogonalize(torch.cat(updates)), sizes), strict=True):
            param.mul_(1 - group["lr"] * group["weight_decay"] * applied)
            param.sub_(sharded_like(update.reshape(param.shape), param) * (group["lr"] * scale * applied))


def _as_matrices(x: Tensor) -> Tensor:
    return x if x.ndim == 3 else x[None]


def _by_shape(params: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    for param in params:
        if param.grad is not None:
            groups.setdefault(tuple(param.shape[-2:]), []).append(param)
    return list(groups.values())


def build_optimizers(
    name: str, module: nn.Module, *, matrices: nn.Module, lr: float, muon_lr: float, weight_decay: float
) -> list[Optimizer]:
    """The optimizer called `name` for the parameters of `module`.

    `muon` takes the matrices of the submodule `matrices`, and AdamW the rest: embeddings, heads,
    norms, and the factors of low-rank updates. Those are thin: their small singular values are noise,
    which orthogonalizing would make as large as the rest. Every group remembers its peak rate as
    `initial_lr`, for `set_rate`.
    """
    everything = [param for param in module.parameters() if param.requires_grad]
    if name == "muon":
        thin = {id(param) for part in matrices.modules() if isinstance(part, LowRank) for param in part.parameters()}
        chosen = [param for param in matrices.parameters() if param.ndim >= 2 and param.requires_grad]
        chosen = [param for param in chosen if id(param) not in thin]
        ids = {id(param) for param in chosen}
        rest = [param for param in everything if id(param) not in ids]
        optimizers: list[Optimizer] = [Muon(chosen, lr=muon_lr, weight_decay=weight_decay)] if chosen else []
        optimizers += [torch.optim.AdamW(rest, lr=lr, betas=_BETAS, weight_decay=weight_decay, fused=True)]
    elif name == "adamw":
        optimizers = [torch.optim.AdamW(everything, lr=lr, betas=_BETAS, weight_decay=weight_decay, fused=True)]
    elif name == "adam":
        optimizers = [torch.optim.Adam(everything, lr=lr, betas=_BETAS, weight_decay=weight_decay, fused=True)]
    else:
        optimizers = [torch.optim.SGD(everything, lr=lr, momentum=0.9, weight_decay=weight_decay, fused=True)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def rates(optimizers: Iterable[Optimizer]) -> dict[str, float]:
    """As they are now: `lr`, and `muon_lr` where Muon takes part."""
    return {"muon_lr" if isinstance(it, Muon) else "lr": it.param_groups[0]["lr"] for it in optimizers}


def set_rate(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set every learning rate to `factor` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def skip_where(optimizers: Iterable[Optimizer], broken: Tensor) -> bool:
    """Make the next step change nothing where `broken` (a boolean scalar on the device) is true.

    Returns whether to take the step: on the host's own memory the answer is there at once. On a GPU
    the optimizers read it on the device, as gradient scalers do it, so that nothing waits; SGD can't.
    """
    optimizers = list(optimizers)
    if not broken.is_cuda or any(isinstance(optimizer, torch.optim.SGD) for optimizer in optimizers):
        return not bool(broken)
    for optimizer in optimizers:
        optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
    return True
