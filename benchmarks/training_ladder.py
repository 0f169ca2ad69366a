"""From the tutorial loop to ours, one change at a time: what each is worth on this CPU.

    .venv-bench/bin/python -m benchmarks.training_ladder

The text classification of `training_throughput`: every rung keeps the changes of those before it. One
process, the rungs take turns, medians of real tokens per second; dropout 0 and a squared ReLU everywhere.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.peers.modules import TutorialClassifier
from benchmarks.peers.noria_training import text_classification
from benchmarks.peers.settings import Settings
from benchmarks.results import Row, write_results
from benchmarks.workloads.format import Workload
from benchmarks.workloads.prepare import prepare
from noria.data.batching import BatchPlan
from noria.data.ragged import pad
from noria.model import attention, layers
from noria.training.optimizers import build_optimizers
from noria.training.probe import compile_blocks

REPEATS = 3
_STEPS, _WARM_UP = 12, 3
_ROWS, _WIDEST, _BATCH_TOKENS = 32, 128, 4_096
Step = Callable[[int], int]
"""Train on batch i; returns its number of real tokens."""


@dataclass(frozen=True)
class Rung:
    """A change; `within` patches what the change switches."""

    change: str
    step: Step
    within: Callable[[], AbstractContextManager[None]] = nullcontext


def rungs(workload: Workload) -> list[Rung]:
    """In order."""
    return [
        Rung("tutorial loop: padded to 128, Adam, batches of 32 rows", tutorial(workload, _to_widest, fused=None)),
        Rung("pad to the longest row of the batch", tutorial(workload, _to_longest, fused=None)),
        Rung("rows of like length together, batches of 4,096 tokens", tutorial(workload, _by_length, fused=None)),
        Rung("fused AdamW", tutorial(workload, _by_length, fused=True)),
        Rung("our blocks: pre-norm, no biases", ours(workload, torch.float32), lambda: _plain(attend=True)),
        Rung("activations in bfloat16", ours(workload, torch.bfloat16), lambda: _plain(attend=True)),
        Rung("attention written out", ours(workload, torch.bfloat16), lambda: _plain(attend=False)),
        Rung("squared ReLU in one operation", ours(workload, torch.bfloat16)),
        Rung("Muon for the matrices", ours(workload, torch.bfloat16, optimizer="muon")),
        Rung("blocks compiled, with AdamW (half a minute at the start)", ours(workload, torch.bfloat16, compiled=True)),
    ]


def tutorial(
    workload: Workload, batches: Callable[[Workload], Callable[[int], tuple[np.ndarray, int]]], *, fused: bool | None
) -> Step:
    description = workload.description
    model = TutorialClassifier(
        vocabulary_size=description.vocabulary_size,
        num_classes=description.num_labels,
        width=_WIDEST,
        pad=0,
        settings=Settings(),
    )
    kind = torch.optim.AdamW if fused else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=5e-4, fused=fused)
    rows, labels = workload.rows("train"), np.array(workload.labels("train"))
    batch = batches(workload)

    def step(index: int) -> int:
        numbers, width = batch(index)
        input_ids = torch.from_numpy(pad([rows[row] for row in numbers], width=width).astype(np.int64))
        mask = (input_ids != 0).long()
        loss = F.cross_entropy(model(input_ids, mask), torch.from_numpy(labels[numbers]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return int(mask.sum())

    return step


def ours(workload: Workload, dtype: torch.dtype, *, optimizer: str = "adamw", compiled: bool = False) -> Step:
    work = text_classification(workload, Settings())
    work.model.compute_dtype = dtype
    compile_blocks(work.model, on=compiled)
    optimizers = build_optimizers(
        optimizer, work.model, matrices=work.matrices, lr=5e-4, muon_lr=0.01, weight_decay=0.0
    )

    def step(index: int) -> int:
        batch = work.objective.batch(index)
        (work.objective.loss(work.model, batch) / batch.num_targets).backward()
        torch.nn.utils.clip_grad_norm_(work.model.parameters(), 1.0)
        for each in optimizers:
            each.step()
            each.zero_grad()
        return batch.num_tokens

    return step


def _to_widest(workload: Workload) -> Callable[[int], tuple[np.ndarray, int]]:
    order = np.random.default_rng(1).permutation(len(workload.rows("train")))
    return lambda index: (order[index * _ROWS :][:_ROWS], _WIDEST)


def _to_longest(workload: Workload) -> Callable[[int], tuple[np.ndarray, int]]:
    widest, lengths = _to_widest(workload), workload.rows("train").lengths
    return lambda index: (widest(index)[0], int(lengths[widest(index)[0]].max()))


def _by_length(workload: Workload) -> Callable[[int], tuple[np.ndarray, int]]:
    plan = BatchPlan(workload.rows("train").lengths, batch_tokens=_BATCH_TOKENS, seed=1)
    return lambda index: (plan.batch(index).rows, plan.batch(index).width)


@contextmanager
def _plain(*, attend: bool) -> Iterator[None]:
    """Our block without the squared ReLU in one operation and, with `attend`, with PyTorch's fused attention."""
    kept = attention.attend, layers.squared_relu
    layers.squared_relu = lambda x: F.relu(x).square()
    if attend:
        attention.attend = _fused
    try:
        yield
    finally:
        attention.attend, layers.squared_relu = kept


def _fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout)


def measure(workload: Workload) -> list[Row]:
    """A row a rung: its speed, against that of the rung before."""
    ladder = rungs(workload)
    speeds: list[list[float]] = [[] for _ in ladder]
    for repeat in range(REPEATS):
        for rung, found in zip(ladder, speeds, strict=True):
            with rung.within():
                first = repeat * (_STEPS + _WARM_UP)
                for index in range(first, first + _WARM_UP):
                    rung.step(index)
                start = time.perf_counter()
                tokens = sum(rung.step(index) for index in range(first + _WARM_UP, first + _WARM_UP + _STEPS))
                found.append(tokens / (time.perf_counter() - start))
            print(f"{rung.change}: {found[-1]:,.0f} tokens/s", flush=True)
    medians = [statistics.median(found) for found in speeds]
    before = [None, *medians[:7], medians[7], medians[7]]  # the last two are alternatives on the same rung
    return [
        Row(
            rung.change,
            "tokens/s",
            round(speed),
            peer=None if previous is None else "the rung before",
            theirs=None if previous is None else round(previous),
            repeats=REPEATS,
        )
        for rung, speed, previous in zip(ladder, medians, before, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=Path, help="where workloads are kept (default: written anew)")
    args = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as directory:
        workload = prepare("text-classification", (args.workloads or Path(directory)) / "text-classification")
        print(write_results("training_ladder", measure(workload), packages=("torch",)))


if __name__ == "__main__":
    main()
