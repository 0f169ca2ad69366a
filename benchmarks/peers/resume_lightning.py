"""PyTorch Lightning, killed and resumed with `ckpt_path="last"`.

    python -m benchmarks.peers.resume_lightning WORKLOAD_DIR --plan JSON

As its documentation says for the same results again: `seed_everything(..., workers=True)` and
`deterministic=True`; `ModelCheckpoint(every_n_train_steps, save_last=True)` saves inside epochs. Its data
loader is a shuffling `DataLoader`, or one with a state, which its warning on resuming inside an epoch
asks for and leaves to its user: see resumable_loader.py. Rows are padded to the longest of a batch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.peers.batches import pad_classified
from benchmarks.peers.lightning_trainer import Classifier
from benchmarks.peers.resumable_loader import ResumableLoader
from benchmarks.peers.resume_plan import Plan, Trace, Watched, main
from benchmarks.peers.stopwatch import Stopwatch
from benchmarks.peers.tutorial_loop import Task, classification, validation_loss
from benchmarks.workloads.format import Workload


def train(workload: Workload, plan: Plan) -> None:
    """From the last checkpoint in `plan.directory`, if there is one, to the last step."""
    settings = plan.settings
    lightning.seed_everything(plan.seed, workers=True, verbose=False)
    task = replace(classification(workload, settings), collate=partial(pad_classified, pad=workload.pad))
    trace = Trace(plan, steps_per_epoch=-(-len(task.train) // plan.batch_size))
    trace.watch(task.model)
    trainer = lightning.Trainer(
        max_steps=plan.steps,
        deterministic=True,
        accelerator="cpu",
        gradient_clip_val=settings.max_grad_norm,
        callbacks=[
            ModelCheckpoint(plan.directory, every_n_train_steps=plan.save_every_steps, save_top_k=-1, save_last=True)
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        Classifier(task, settings, Stopwatch(settings)),
        _loader(task, plan, trace),
        ckpt_path="last" if plan.resume else None,
    )
    trace.finish(task.model, validation_loss=validation_loss(task.model, task, settings, torch.device("cpu")))


def _loader(task: Task, plan: Plan, trace: Trace) -> DataLoader[dict[str, Tensor]]:
    rows = Watched(task.train, trace=trace, size=plan.batch_size)
    if plan.resumable_loader:
        return ResumableLoader(rows, batch_size=plan.batch_size, seed=plan.seed, collate=task.collate)
    return DataLoader(rows, batch_size=plan.batch_size, shuffle=True, collate_fn=task.collate)


if __name__ == "__main__":
    main(train, description=__doc__)
