"""What one process of the kill-and-resume benchmark is told, what it watches, and what it reports.

A contender is a module that runs as `python -m MODULE WORKLOAD_DIR --plan JSON` and prints a report as its
last line of standard output, unless it is killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.peers.settings import Settings
from benchmarks.workloads.format import Workload, read_workload


@dataclass(frozen=True)
class Plan:
    """One process.

    Attributes
    ----------
    directory:
        Where checkpoints are.
    weights:
        Where the final weights go (safetensors).
    started_at:
        Seconds since 1970 when the process was started.
    steps, save_every_steps:
        Of the whole training, which earlier processes may have begun.
    resume:
        Go on from the newest checkpoint.
    kill_after_steps:
        SIGKILL itself when so many steps of this process are done; 0 means never.
    first_step_only:
        End as soon as the first step begins.
    resumable_loader:
        Lightning alone: with a data loader that has a state.
    """

    directory: str
    weights: str
    started_at: float
    steps: int
    save_every_steps: int
    resume: bool = False
    kill_after_steps: int = 0
    first_step_only: bool = False
    resumable_loader: bool = False
    threads: int = 2
    seed: int = 1
    batch_size: int = 32
    batch_tokens: int = 2_048

    @property
    def settings(self) -> Settings:
        """The same for all: float32, no dropout, squared ReLU, a rate that falls linearly."""
        return Settings(
            threads=self.threads,
            steps=self.steps,
            num_warmup_steps=0,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            schedule="linear",
            seed=self.seed,
        )


@dataclass(frozen=True)
class Report:
    """What a process did.

    Attributes
    ----------
    first_step_s:
        Seconds from the start of the process to the first forward pass of training, less what `leave_out` took.
    fetched_batches:
        Batches read from the data up to there, its own included; rows / batch size where rows are read singly.
    steps_per_epoch:
        Of this contender.
    batches:
        A digest of the token ids of every step of this process.
    validation_loss:
        Mean per row, with the final weights.
    """

    first_step_s: float
    fetched_batches: float
    steps_per_epoch: int
    batches: list[str] = field(default_factory=list)
    validation_loss: float = 0.0

    @staticmethod
    def from_json(line: str) -> Report:
        return Report(**json.loads(line))


class Trace:
    """Watches the steps of a process, and kills it where the plan says so."""

    def __init__(self, plan: Plan, *, steps_per_epoch: int) -> None:
        self._plan = plan
        self._steps_per_epoch = steps_per_epoch
        self._batches: list[str] = []
        self._fetched = self._fetched_first = self._first_step_s = self._left_out_s = 0.0

    def fetch(self, num_batches: float) -> None:
        """Data was read."""
        self._fetched += num_batches

    def leave_out(self, seconds: float) -> None:
        """Seconds before the first step that would make a start without a checkpoint look slower than it is."""
        self._left_out_s += seconds

    def begin(self, token_ids: Tensor) -> None:
        """A forward pass of training begins on int64 (rows, positions): the step before is done."""
        if not self._batches:
            self._first_step_s = time.time() - self._plan.started_at - self._left_out_s
            self._fetched_first = self._fetched
            if self._plan.first_step_only:
                self._tell(0.0)
                sys.stdout.flush()
                os._exit(0)
        if self._plan.kill_after_steps and len(self._batches) == self._plan.kill_after_steps:
            os.kill(os.getpid(), signal.SIGKILL)
        self._batches.append(hashlib.sha256(token_ids.contiguous().numpy().tobytes()).hexdigest()[:16])

    def watch(self, model: nn.Module) -> None:
        """Have `begin` called before each forward pass of training of a peer's model."""

        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            if module.training:
                self.begin(kwargs["input_ids"] if "input_ids" in kwargs else args[0])

        model.register_forward_pre_hook(hook, with_kwargs=True)

    def finish(self, model: nn.Module, *, validation_loss: float) -> None:
        """Write the weights and print the report."""
        weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, self._plan.weights)
        self._tell(validation_loss)

    def _tell(self, validation_loss: float) -> None:
        report = Report(
            first_step_s=self._first_step_s,
            fetched_batches=self._fetched_first,
            steps_per_epoch=self._steps_per_epoch,
            batches=self._batches,
            validation_loss=validation_loss,
        )
        print(json.dumps(asdict(report)))


class Watched(Dataset[dict[str, Tensor]]):
    """Rows, each of which is counted when it is read; `size` rows make a batch."""

    def __init__(self, rows: Dataset[dict[str, Tensor]], *, trace: Trace, size: int) -> None:
        self._rows, self._trace, self._size = rows, trace, size

    def __len__(self) -> int:
        return len(self._rows)  # type: ignore[arg-type]

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        self._trace.fetch(1 / self._size)
        return self._rows[row]


def main(train: Callable[[Workload, Plan], None], *, description: str | None) -> None:
    """The command line of every contender."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path, help="a directory that benchmarks.workloads wrote")
    parser.add_argument("--plan", required=True, help="JSON; see benchmarks/peers/resume_plan.py")
    args = parser.parse_args()
    plan = Plan(**json.loads(args.plan))
    torch.set_num_threads(plan.threads)
    train(read_workload(args.workload), plan)
