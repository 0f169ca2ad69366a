"""A loop in the manner of nanoGPT (https://github.com/karpathy/nanoGPT), written anew from its description.

    python -m benchmarks.peers.nanogpt_loop WORKLOAD_DIR --settings JSON

GPT-2 blocks (pre-norm, no biases), one fused attention kernel, tied embeddings, residual projections that
start smaller; batches of random crops of the token stream; fused AdamW with betas (0.9, 0.95) and weight
decay on matrices only; `compile` as there, off by default on the CPU.

Shapes: B rows, T positions, H heads, D dimension, V vocabulary.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.peers.batches import blocks
from benchmarks.peers.modules import DECODER, context, vocabulary_size
from benchmarks.peers.optimization import activation, autocast, mean_loss, prepare_torch, schedule
from benchmarks.peers.settings import Record, Settings, read_arguments
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.workloads.format import Workload

PEER = "nanoGPT-style loop"
_BATCH_SIZE = 8
_VALIDATION_BLOCKS = 8


class Block(nn.Module):
    """Causal self-attention and a feed-forward net, each behind a norm and beside a residual."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        sizes = DECODER.given(settings)
        dim, hidden, self.heads = sizes.dim, sizes.feed_forward_dim, sizes.heads
        self.attention_norm, self.feed_forward_norm = (nn.LayerNorm(dim, bias=False) for _ in range(2))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)
        self.activation = activation(settings.activation)
        self.dropout = settings.dropout

    def forward(self, x_BTD: Tensor) -> Tensor:
        qkv_BTD = self.qkv(self.attention_norm(x_BTD)).chunk(3, dim=-1)
        q_BHTK, k_BHTK, v_BHTK = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv_BTD)
        dropout = self.dropout if self.training else 0.0
        mixed_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, dropout_p=dropout, is_causal=True)
        attended_BTD = self.attention_out(mixed_BHTK.transpose(1, 2).flatten(2))
        x_BTD = x_BTD + F.dropout(attended_BTD, dropout) if dropout else x_BTD + attended_BTD
        h_BTD = self.down(self.activation(self.up(self.feed_forward_norm(x_BTD))))
        return x_BTD + F.dropout(h_BTD, dropout) if dropout else x_BTD + h_BTD


class Gpt(nn.Module):
    """A decoder with learned positions."""

    def __init__(self, num_tokens: int, settings: Settings) -> None:
        super().__init__()
        sizes = DECODER.given(settings)
        dim, layers = sizes.dim, sizes.layers
        self.tokens = nn.Embedding(num_tokens, dim)
        self.positions = nn.Embedding(context(settings), dim)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                deep = name.endswith(("attention_out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if deep else 0.02)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits float (B, T, V)."""
        x_BTD = self.tokens(ids_BT) + self.positions.weight[: ids_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return F.linear(self.norm(x_BTD), self.tokens.weight)


def main() -> None:
    workload, settings = read_arguments(__doc__, defaults={"fused": True, "weight_decay": 0.1})
    settings.without(PEER, group_by_length=False, attention="sdpa", workers=0, batch_tokens=0, optimizer="adamw")
    print(train(workload, settings).to_json())


def train(workload: Workload, settings: Settings) -> Record:
    """AdamW on random crops for `settings.steps`."""
    device = prepare_torch(settings)
    model = Gpt(vocabulary_size(workload, settings), settings).to(device)
    forward = cast("nn.Module", torch.compile(model)) if settings.compile else model
    optimizer = _optimizer(model, settings)
    rates = schedule(optimizer, settings)
    stream = workload.rows("train").values
    generator = np.random.default_rng(settings.seed)
    batch_size, length = settings.batch_size or _BATCH_SIZE, context(settings)
    watch = Stopwatch(settings)
    watch.start()
    batch = _crops(stream, (batch_size, length), generator, device)
    while not watch.done:
        with autocast(settings, device):
            logits_BTV = forward(batch[:, :-1])
            loss = F.cross_entropy(logits_BTV.flatten(0, 1), batch[:, 1:].flatten())
        watch.count(real_tokens=batch_size * length, target_tokens=batch_size * length)
        batch = _crops(stream, (batch_size, length), generator, device)  # while a GPU is at work
        loss.backward()
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rates.step()
        if watch.step():
            with watch.validation() as losses:
                losses.append(validation_loss(model, workload, settings, device))
    return watch.record(peer=PEER, work=workload.description.work, model=model)


def validation_loss(model: Gpt, workload: Workload, settings: Settings, device: torch.device) -> float:
    """Mean per token."""

    def loss(batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        logits_BTV = model(batch["rows"][:, :-1])
        labels_BT = batch["rows"][:, 1:]
        return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), reduction="sum"), labels_BT.numel()

    rows = blocks(workload, "validation", context=context(settings)).to(device)
    with autocast(settings, device):
        return mean_loss(model, ({"rows": part} for part in rows.split(_VALIDATION_BLOCKS)), loss)


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """AdamW; norms don't decay."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.95), fused=settings.fused or None)


def _crops(
    stream: NDArray[np.generic], shape: tuple[int, int], generator: np.random.Generator, device: torch.device
) -> Tensor:
    """Random crops of the stream: int64 (B, T + 1)."""
    batch_size, length = shape
    starts = generator.integers(0, len(stream) - length, size=batch_size)
    batch = torch.from_numpy(np.stack([stream[start : start + length + 1] for start in starts]).astype(np.int64))
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch


if __name__ == "__main__":
    main()
