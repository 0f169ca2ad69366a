"""PyTorch Lightning at its defaults, with the module and the batches of the tutorial loop.

    python -m benchmarks.peers.lightning_trainer WORKLOAD_DIR --settings JSON

`Trainer()` as it comes, except that it writes no checkpoints, logs and bars: they would be counted
against it. Text classification only.
"""

from __future__ import annotations

import logging

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.peers.optimization import prepare_torch, schedule
from benchmarks.peers.settings import Record, Settings, read_arguments
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.peers.tutorial_loop import Task, classification, validation_loss
from benchmarks.workloads.format import Workload

PEER = "Lightning"


class Classifier(lightning.LightningModule):
    """The tutorial's module in Lightning's clothes."""

    def __init__(self, task: Task, settings: Settings, watch: Stopwatch) -> None:
        super().__init__()
        self.model = task.model
        self._task, self._settings, self._watch = task, settings, watch

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        total, number = self._task.loss(self.model, batch)
        self._watch.count(real_tokens=self._task.real_tokens(batch), target_tokens=number)
        return total / number

    def configure_optimizers(self) -> object:
        optimizer = torch.optim.Adam(self.parameters(), lr=self._settings.lr, fused=self._settings.fused or None)
        return [optimizer], [{"scheduler": schedule(optimizer, self._settings), "interval": "step"}]


class Watched(lightning.Callback):
    """Tells the stopwatch."""

    def __init__(self, task: Task, settings: Settings, watch: Stopwatch) -> None:
        self._task, self._settings, self._watch = task, settings, watch

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._watch.start()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Classifier, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if self._watch.step():
            with self._watch.validation() as losses:
                losses.append(validation_loss(pl_module.model, self._task, self._settings, pl_module.device))


def main() -> None:
    workload, settings = read_arguments(__doc__)
    settings.without(
        PEER,
        group_by_length=False,
        attention="sdpa",
        compile=False,
        batch_tokens=0,
        optimizer="adamw",
        weight_decay=0.0,
    )
    print(train(workload, settings).to_json())


def train(workload: Workload, settings: Settings) -> Record:
    """`Trainer.fit` for `settings.steps`."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    prepare_torch(settings)
    task = classification(workload, settings)
    watch = Stopwatch(settings)
    loader = DataLoader(
        task.train,
        batch_size=settings.batch_size or task.batch_size,
        shuffle=True,
        collate_fn=task.collate,
        num_workers=settings.workers,
    )
    trainer = lightning.Trainer(
        max_steps=settings.steps,
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        gradient_clip_val=settings.max_grad_norm or None,
        callbacks=[Watched(task, settings, watch)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(task, settings, watch), loader)
    return watch.record(peer=PEER, work=workload.description.work, model=task.model, packages=("pytorch-lightning",))


if __name__ == "__main__":
    main()
