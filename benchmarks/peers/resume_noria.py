"""Noria's training core, killed and resumed: `run_job` with its state in a directory, nothing else.

    python -m benchmarks.peers.resume_noria WORKLOAD_DIR --plan JSON

There is no switch for resuming: a job whose store holds a state goes on from it. A state is saved when
`checkpoint_every_s` has passed at a point of the learning curves (each 20 steps, and at the end of an epoch)
or at a look at the clock between them, where steps are long. Here that is each of them.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch._dynamo  # PyTorch does so with the first optimizer, for a second: outside of what `Traced` leaves out
from torch import Tensor, nn

from benchmarks.peers.noria_training import text_classification
from benchmarks.peers.resume_plan import Plan, Trace, main
from benchmarks.workloads.format import Workload
from noria.config import TrainConfig
from noria.errors import ConfigError
from noria.training.batch import Batch
from noria.training.loop import REPORT_EVERY_STEPS
from noria.training.recipe import Objective, Phase
from noria.training.run import Job, run_job
from noria.training.state import StateStore

_AT_EVERY_POINT_S = 1e-3


class Traced:
    """An objective that tells a trace of what it is asked for, once the steps have begun.

    Before the first step of all, the core times a pass on a typical batch. A resumed process knows the
    result. That pass is no step, and its time is left out: it would hide what resuming takes.
    """

    def __init__(self, objective: Objective, trace: Trace, *, resumed: bool) -> None:
        self._objective, self._trace = objective, trace
        self._begun = resumed
        self._probed_at: float | None = None

    def __len__(self) -> int:
        return len(self._objective)

    def batch(self, index: int) -> Batch:
        """The batch at `index`; the first of the steps is 0 unless the training was resumed."""
        if index == 0 and not self._begun:
            self._begun = True
            if self._probed_at is not None:
                self._trace.leave_out(time.monotonic() - self._probed_at)
        if self._begun:
            self._trace.fetch(1)
        elif self._probed_at is None:
            self._probed_at = time.monotonic()
        return self._objective.batch(index)

    def largest(self) -> Batch:
        return self._objective.largest()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """One part a batch, as one process on a CPU has: a pass is a step."""
        if self._begun:
            self._trace.begin(batch.inputs["token_ids"])
        return self._objective.loss(model, batch)


def train(workload: Workload, plan: Plan) -> None:
    """From the newest state in `plan.directory`, if there is one, to the last step."""
    if plan.save_every_steps != REPORT_EVERY_STEPS:
        raise ConfigError(f"a save every {plan.save_every_steps} steps", expected=f"{REPORT_EVERY_STEPS}")
    settings = plan.settings
    work = text_classification(workload, settings)
    trace = Trace(plan, steps_per_epoch=len(work.objective))
    phase = Phase(
        "train",
        objective=Traced(work.objective, trace, resumed=plan.resume),
        model=work.model,
        matrices=work.matrices,
        head=work.head,
        epochs=plan.steps / len(work.objective),
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        schedule=settings.schedule,
    )
    config = TrainConfig.model_validate(
        {
            "optimizer": settings.optimizer,
            "weight_decay": settings.weight_decay,
            "max_grad_norm": settings.max_grad_norm,
            "warmup_share": 0.0,
            "precision": settings.precision,
            "threads": settings.threads,
            "compile": "off",
            "checkpoint_every_s": _AT_EVERY_POINT_S,
        }
    )
    run_job(
        Job(
            config=config,
            seed=plan.seed,
            model=work.model,
            recipe=(phase,),
            row_id=str,
            store=StateStore(Path(plan.directory), fingerprint="benchmark"),
            on_metrics=lambda step, values: None,
            device=torch.device("cpu"),
        )
    )
    work.model.eval()
    with torch.no_grad():
        trace.finish(work.model, validation_loss=work.validate())


if __name__ == "__main__":
    main(train, description=__doc__)
