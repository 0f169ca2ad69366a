"""Time to quality on the CPU: how long until ours reaches the final validation loss of the best-set Trainer.

    .venv-bench/bin/python -m benchmarks.training_quality

The text classification of `training_throughput`, from random weights, each side at its best: the Trainer
with what a sweep found quickest and the best of two learning rates, with dropout and without, linear to 0
over two epochs; ours with Muon, its own rate and batches, and no dropout: its settings are fixed.
Validation is not counted, our saves are. For both sides the first validation at or below that loss counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.peers.contender import Contender, run_contender, run_in_turn
from benchmarks.results import Row, write_results
from benchmarks.training_throughput import OURS, PRECISION, REPEATS, best_set, tell
from benchmarks.workloads.prepare import prepare
from noria.errors import TrainingError

WORK = "text-classification"
BAR = 0.6
_EPOCHS = 2
_RATES, _DROPOUT = (2e-4, 3e-4), (0.0, 0.1)  # at 5e-4 it learns nothing, at 1e-4 too little in two epochs
_GUESSING = 0.6  # nats: a Trainer that ends above has not learned, and its loss is no target
_OURS = {
    "precision": PRECISION,
    "optimizer": "muon",
    "lr": 2e-3,
    "muon_lr": 1e-2,
    "batch_tokens": 2_048,
    "dropout": 0.0,
    "schedule": "linear",
    "steps": 420,
    "lr_warmup_steps": 20,
    "evaluate_every_steps": 20,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=Path, help="where workloads are kept (default: written anew)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        workload = prepare(WORK, (args.workloads or Path(directory)) / WORK)
        rows = measure(workload.directory, num_rows=workload.description.num_rows["train"])
    print(write_results("training_quality", rows, packages=("torch", "transformers")))


def measure(workload: Path, *, num_rows: int) -> list[Row]:
    """The row."""
    best, *_ = best_set(WORK, workload)
    size = int(str(best.settings["batch_size"]))
    steps = _EPOCHS * num_rows // size
    trainers = [
        best.given(
            lr=lr,
            dropout=dropout,
            schedule="linear",
            steps=steps,
            lr_warmup_steps=steps // 20,
            evaluate_every_steps=steps // 12,
        )
        for lr in _RATES
        for dropout in _DROPOUT
    ]
    finals = []
    for trainer in trainers:
        record = run_contender(trainer, workload)
        tell(trainer, record)
        finals.append(record.curve[-1][1])
        print(f"{_told(trainer)}: validation loss {finals[-1]:.4f}", flush=True)
    if min(finals) > _GUESSING:
        raise TrainingError(f"the Trainer ended at {min(finals):.4f}: it has learned nothing", expected="other rates")
    trainer = trainers[finals.index(min(finals))]
    ours = Contender("Noria", OURS, _OURS)
    found = run_in_turn([ours, trainer], workload, repeats=REPEATS, on_record=tell)
    target = found[trainer.name].final_loss
    assert target is not None
    theirs_s, ours_s = (found[name].seconds_to_loss(target) for name in (trainer.name, "Noria"))
    assert theirs_s is not None
    claim = f"text classification: seconds to the Trainer's final validation loss ({target:.4f})"
    print(claim, ours_s, theirs_s)
    reached = ours_s is not None
    if ours_s is None:
        claim, ours_s = f"{claim}, NOT REACHED", statistics.median(r.curve[-1][0] for r in found["Noria"].records)
    return [
        Row(
            claim,
            "s",
            round(ours_s, 1),
            peer=f"{trainer.name}: {trainer.note}, {_told(trainer)}",
            theirs=round(theirs_s, 1),
            bar=BAR,
            higher_is_better=False,
            repeats=REPEATS,
            reached=reached,
        )
    ]


def _told(trainer: Contender) -> str:
    return f"lr {trainer.settings['lr']}, dropout {trainer.settings['dropout']}"


if __name__ == "__main__":
    main()
