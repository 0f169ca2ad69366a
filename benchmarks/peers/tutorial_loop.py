"""The loop of PyTorch's tutorials: built-in layers, a shuffling DataLoader, Adam.

    python -m benchmarks.peers.tutorial_loop WORKLOAD_DIR --settings JSON

Text classification pads every row to the longest that is allowed (128), as tutorials do. Translation is
mended to be right: masks, positions, a shifted target, and padding to the longest row of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.peers.batches import IGNORED, Item, Rows, classified, pad_classified, pad_inputs, translated
from benchmarks.peers.modules import TutorialClassifier, TutorialTranslator, vocabulary_size
from benchmarks.peers.optimization import autocast, mean_loss, prepare_torch, schedule
from benchmarks.peers.settings import Record, Settings, read_arguments
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.workloads.format import Workload

PEER = "tutorial loop"
Loss = tuple[Tensor, int | Tensor]


@dataclass(frozen=True)
class Task:
    """A model, rows, how they become batches, what they lose (sum, number), and how many real tokens they hold."""

    model: nn.Module
    train: Rows
    validation: Rows
    collate: Callable[[Sequence[Item]], dict[str, Tensor]]
    loss: Callable[[nn.Module, dict[str, Tensor]], Loss]
    real_tokens: Callable[[dict[str, Tensor]], Tensor]
    batch_size: int


def main() -> None:
    workload, settings = read_arguments(__doc__)
    settings.without(PEER, group_by_length=False, attention="sdpa", batch_tokens=0, optimizer="adamw")
    print(train(workload, settings).to_json())


def train(workload: Workload, settings: Settings) -> Record:
    """Adam on shuffled batches for `settings.steps`."""
    device = prepare_torch(settings)
    task = TASKS[workload.description.work](workload, settings)
    model = task.model.to(device)
    forward = cast("nn.Module", torch.compile(model, dynamic=True)) if settings.compile else model
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=settings.fused or None
    )
    rates = schedule(optimizer, settings)
    loader = DataLoader(
        task.train,
        batch_size=settings.batch_size or task.batch_size,
        shuffle=True,
        collate_fn=task.collate,
        num_workers=settings.workers,
        pin_memory=device.type == "cuda",
    )
    watch = Stopwatch(settings)
    watch.start()
    for batch in endless(loader):
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with autocast(settings, device):
            total, number = task.loss(forward, batch)
        watch.count(real_tokens=task.real_tokens(batch), target_tokens=number)
        optimizer.zero_grad()
        (total / number).backward()
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        rates.step()
        if watch.step():
            with watch.validation() as losses:
                losses.append(validation_loss(model, task, settings, device))
        if watch.done:
            break
    return watch.record(peer=PEER, work=workload.description.work, model=model)


def validation_loss(model: nn.Module, task: Task, settings: Settings, device: torch.device) -> float:
    """Mean per row for classification, per target token elsewhere."""
    batches = (
        {name: tensor.to(device) for name, tensor in task.collate(items).items()}
        for items in task.validation.sorted_batches()
    )
    with autocast(settings, device):
        return mean_loss(model, batches, partial(task.loss, model))


def endless(loader: DataLoader[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """One epoch after another."""
    while True:
        yield from loader


def classification(workload: Workload, settings: Settings) -> Task:
    """Rows padded to 128, batches of 32."""
    description = workload.description
    return Task(
        model=TutorialClassifier(
            vocabulary_size=vocabulary_size(workload, settings),
            num_classes=description.num_labels,
            width=description.max_tokens,
            pad=workload.pad,
            settings=settings,
        ),
        train=classified(workload, "train"),
        validation=classified(workload, "validation"),
        collate=partial(pad_classified, pad=workload.pad, width=description.max_tokens),
        loss=classification_loss,
        real_tokens=lambda batch: batch["attention_mask"].sum(),
        batch_size=32,
    )


def classification_loss(model: nn.Module, batch: dict[str, Tensor]) -> Loss:
    """Sum of cross entropies, and the number of rows."""
    logits_BC = model(batch["input_ids"], batch["attention_mask"])
    return F.cross_entropy(logits_BC, batch["labels"], reduction="sum"), len(batch["labels"])


def translation(workload: Workload, settings: Settings) -> Task:
    """Batches of 64 pairs, padded to their longest."""
    return Task(
        model=TutorialTranslator(
            vocabulary_size=vocabulary_size(workload, settings),
            width=workload.description.max_tokens + 2,
            pad=workload.pad,
            settings=settings,
        ),
        train=translated(workload, "train", begin=True),
        validation=translated(workload, "validation", begin=True),
        collate=partial(_pad_pairs, pad=workload.pad),
        loss=partial(translation_loss, pad=workload.pad),
        # without the end of the source, and the begin and end of the target
        real_tokens=lambda batch: sum((batch[name] != workload.pad).sum() for name in batch) - 3 * len(batch["source"]),
        batch_size=64,
    )


def _pad_pairs(items: Sequence[Item], *, pad: int) -> dict[str, Tensor]:
    source = pad_inputs(items, pad=pad)["input_ids"]
    target = pad_inputs([{"input_ids": item["labels"]} for item in items], pad=pad)["input_ids"]
    return {"source": source, "target": target}


def translation_loss(model: nn.Module, batch: Mapping[str, Tensor], *, pad: int) -> Loss:
    """Sum of cross entropies of the next token, and the number of those that are not padding."""
    logits_BUV = model(batch["source"], batch["target"][:, :-1])
    labels_BU = batch["target"][:, 1:].masked_fill(batch["target"][:, 1:] == pad, IGNORED)
    total = F.cross_entropy(logits_BUV.flatten(0, 1), labels_BU.flatten(), ignore_index=IGNORED, reduction="sum")
    return total, (labels_BU != IGNORED).sum()


TASKS: Mapping[str, Callable[[Workload, Settings], Task]] = {
    "text-classification": classification,
    "translation": translation,
}


if __name__ == "__main__":
    main()
