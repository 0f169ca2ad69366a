"""Hugging Face Trainer, killed and resumed with `resume_from_checkpoint=True`.

    python -m benchmarks.peers.resume_hugging_face WORKLOAD_DIR --plan JSON

As its documentation says for the same results again: `enable_full_determinism` before the model is built
and `full_determinism` in the arguments. Batches that were seen are skipped, which is its default.
"""

from __future__ import annotations

import torch
from transformers import Trainer, enable_full_determinism

from benchmarks.peers.hugging_face_trainer import arguments, classification, validation_loss
from benchmarks.peers.resume_plan import Plan, Trace, Watched, main
from benchmarks.workloads.format import Workload


def train(workload: Workload, plan: Plan) -> None:
    """From the newest checkpoint in `plan.directory`, where the plan says so, to the last step."""
    settings = plan.settings
    enable_full_determinism(plan.seed)
    task = classification(workload, settings)
    trace = Trace(plan, steps_per_epoch=-(-len(task.train) // plan.batch_size))  # type: ignore[arg-type]
    trace.watch(task.model)
    args = arguments(plan.directory, task, settings, work=workload.description.work)
    args.full_determinism = True
    args.set_save(strategy="steps", steps=plan.save_every_steps)
    trainer = Trainer(
        model=task.model,
        args=args,
        train_dataset=Watched(task.train, trace=trace, size=plan.batch_size),
        data_collator=task.collate,
    )
    trainer.train(resume_from_checkpoint=plan.resume)
    trace.finish(task.model, validation_loss=validation_loss(task, settings, torch.device("cpu")))


if __name__ == "__main__":
    main(train, description=__doc__)
