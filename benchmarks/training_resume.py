"""Kill a training in the middle of an epoch, resume it, and compare it with one that was left alone.

    .venv-bench/bin/python -m benchmarks.training_resume     (`make peers` makes the environment)

Text classification, 4 x 128, float32, dropout 0, rows shuffled anew for each epoch, 1,600 of the training
rows so that the kill falls into the second epoch. Every training is a process of its own; SIGKILL comes
from inside, so that the step is exact. The peers are set as their documentation says for exact results.

- whole: never stopped. Twice, so that what differs without any kill is known.
- resumed: killed between two checkpoints, started again by the documented way.
- damaged: as resumed, but the largest file of the newest checkpoint is cut to half before the second start.
- first steps: seconds from process start to the first forward pass, with and without a checkpoint, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.peers.resume_plan import Plan, Report
from benchmarks.peers.resume_runner import Runner, Side, halve, kill, newest
from benchmarks.results import Row, write_results
from benchmarks.workloads.format import Workload, write_workload
from benchmarks.workloads.prepare import prepare
from noria.errors import TrainingError

WORK = "text-classification"
REPEATS = 3
SEEK_BAR_S = 1.0
STEPS, SAVE_EVERY_STEPS, KILL_AFTER_STEPS = 150, 20, 75
_NUM_ROWS = {"train": 1_600, "validation": 400}


OURS = Side("Noria", "benchmarks.peers.resume_noria", "state-*.safetensors")
PEERS = (
    Side("Hugging Face Trainer", "benchmarks.peers.resume_hugging_face", "checkpoint-*/*"),
    Side("Lightning", "benchmarks.peers.resume_lightning", "last.ckpt"),
    Side(
        "Lightning, with a resumable data loader written for it",
        "benchmarks.peers.resume_lightning",
        "last.ckpt",
        resumable_loader=True,
    ),
)


@dataclass(frozen=True)
class Difference:
    """Between the weights of two trainings; `largest` is absolute."""

    equal: bool
    largest: float


@dataclass(frozen=True)
class Found:
    """What one contender did.

    Attributes
    ----------
    again, resumed, damaged:
        Weights against those of the whole training; None where the training did not go on.
    validation_loss:
        How far that of the resumed training is from that of the whole one.
    steps_done_again:
        Between the newest checkpoint and the kill.
    other_batches:
        Steps of the resumed training whose batch is another than in the whole one.
    fetched_more:
        Batches fetched before the first step, more than without a checkpoint.
    fresh_s, resumed_s:
        To the first step, without and with a checkpoint.
    """

    again: Difference
    resumed: Difference
    damaged: Difference | None
    validation_loss: float
    steps_done_again: int
    other_batches: int
    fetched_more: float
    fresh_s: float
    resumed_s: float


def measure(side: Side, runner: Runner, *, plan: Plan, seconds: tuple[float, float, float]) -> Found:
    """The trainings of one contender; `seconds` and batches to the first step come from `first_steps`."""
    whole, again = (runner.need(side, name) for name in ("whole", "again"))
    damaged_directory = runner.copy(side, "killed", to="damaged")
    halve(newest(damaged_directory, side.checkpoints))
    resumed = runner.need(side, "killed", resume=True)
    damaged = runner.run(side, "damaged", resume=True)
    if damaged.report is None:
        print(f"{side.name} does not go on after damage:\n{damaged.told}", flush=True)
    assert whole.report is not None
    assert resumed.report is not None
    begun_at = plan.steps - len(resumed.report.batches)
    require_mid_epoch(side, begun_at, steps_per_epoch=whole.report.steps_per_epoch)
    pairs = zip(resumed.report.batches, whole.report.batches[begun_at:], strict=True)
    fresh_s, resumed_s, fetched_more = seconds
    return Found(
        again=difference(whole.weights, again.weights),
        resumed=difference(whole.weights, resumed.weights),
        damaged=None if damaged.report is None else difference(whole.weights, damaged.weights),
        validation_loss=abs(resumed.report.validation_loss - whole.report.validation_loss),
        steps_done_again=plan.kill_after_steps - begun_at,
        other_batches=sum(mine != wanted for mine, wanted in pairs),
        fetched_more=fetched_more,
        fresh_s=fresh_s,
        resumed_s=resumed_s,
    )


def first_steps(sides: Sequence[Side], runner: Runner) -> dict[str, tuple[float, float, float]]:
    """By name, in turn: median seconds without and with a checkpoint, and batches fetched more with one."""
    fresh: dict[str, list[Report]] = {side.name: [] for side in sides}
    resumed: dict[str, list[Report]] = {side.name: [] for side in sides}
    for turn in range(REPEATS):
        for side in sides:
            runner.copy(side, "killed", to=f"seek-{turn}")
            for name, resume, reports in ((f"fresh-{turn}", False, fresh), (f"seek-{turn}", True, resumed)):
                report = runner.need(side, name, resume=resume, first_step_only=True).report
                assert report is not None
                reports[side.name].append(report)
    return {
        name: (
            statistics.median(report.first_step_s for report in fresh[name]),
            statistics.median(report.first_step_s for report in resumed[name]),
            resumed[name][0].fetched_batches - fresh[name][0].fetched_batches,
        )
        for name in fresh
    }


def rows(found: dict[str, Found]) -> list[Row]:
    """Ours beside each peer; what can't fail to be 0 or 1 for us has a bar."""
    ours = found[OURS.name]
    assert ours.damaged is not None
    result = [
        Row(
            "resume inside an epoch: what it adds to the time from process start to the first step",
            "s",
            round(ours.resumed_s - ours.fresh_s, 2),
            bar=SEEK_BAR_S,
            higher_is_better=False,
            repeats=REPEATS,
        ),
        Row(
            "newest checkpoint half-written: weights after resuming from the one before, against no kill",
            "bitwise equal (1 = yes)",
            int(ours.damaged.equal),
            bar=1,
        ),
    ]
    for peer in PEERS:
        result += _compared(ours, found[peer.name], peer.name)
    return result


def _compared(ours: Found, theirs: Found, peer: str) -> list[Row]:
    yes = "{} (1 = yes)"

    def row(claim: str, unit: str, pair: tuple[float, float], *, bar: float | None = None) -> Row:
        better = unit.endswith("= yes)")
        return Row(claim, unit, pair[0], peer=peer, theirs=pair[1], bar=bar, higher_is_better=better)

    seek = "; ".join(f"{who} without a checkpoint {f.fresh_s:.2f} s" for who, f in (("ours", ours), ("theirs", theirs)))
    return [
        row(
            "SIGKILL inside an epoch, then resumed: final weights against no kill",
            yes.format("bitwise equal"),
            (int(ours.resumed.equal), int(theirs.resumed.equal)),
            bar=1,
        ),
        row(
            "the same: largest difference of a weight",
            "of a weight",
            (_short(ours.resumed.largest), _short(theirs.resumed.largest)),
        ),
        row(
            "the same: difference of the final validation loss",
            "nats",
            (_short(ours.validation_loss), _short(theirs.validation_loss)),
        ),
        row(
            f"the same: steps on another batch than without the kill (ours of {STEPS - _begun(ours)}, theirs of "
            f"{STEPS - _begun(theirs)})",
            "steps",
            (ours.other_batches, theirs.other_batches),
        ),
        row(
            "the same: batches fetched before the first new step, more than without a checkpoint",
            "batches",
            (round(ours.fetched_more, 1), round(theirs.fetched_more, 1)),
        ),
        Row(
            f"resume inside an epoch: process start to the first step ({seek})",
            "s",
            round(ours.resumed_s, 2),
            peer=peer,
            theirs=round(theirs.resumed_s, 2),
            higher_is_better=False,
            repeats=REPEATS,
        ),
        row(
            "newest checkpoint half-written: resuming goes on from the one before",
            yes.format("goes on"),
            (int(ours.damaged is not None), int(theirs.damaged is not None)),
            bar=1,
        ),
        row(
            "control: the same training twice without a kill",
            yes.format("bitwise equal"),
            (int(ours.again.equal), int(theirs.again.equal)),
        ),
    ]


def _begun(found: Found) -> int:
    return KILL_AFTER_STEPS - found.steps_done_again


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def difference(one: Path, other: Path) -> Difference:
    """Between two files of weights of one shape."""
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    equal = all(torch.equal(_bytes(first[name]), _bytes(second[name])) for name in first)
    gaps = [(first[name].double() - second[name].double()).abs().max() for name in first if first[name].numel()]
    return Difference(equal, float(torch.stack(gaps).max()))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def require_mid_epoch(side: Side, step: int, *, steps_per_epoch: int) -> None:
    """Check that the resumed training began inside an epoch that is not the first.

    Raises
    ------
    TrainingError
        When it did not: the comparison would prove too little.
    """
    if step <= steps_per_epoch or step % steps_per_epoch == 0:
        raise TrainingError(
            f"{side.name} resumed at step {step}, of {steps_per_epoch} an epoch",
            expected="a checkpoint inside a later epoch than the first",
            next_step="choose another step for the kill",
        )


def shortened(workload: Workload, directory: Path) -> Workload:
    """The first rows of each side: short epochs."""
    said = workload.description
    return write_workload(
        directory,
        work=said.work,
        tiny=said.tiny,
        vocabulary_size=said.vocabulary_size,
        special_ids=said.special_ids,
        max_tokens=said.max_tokens,
        columns={
            f"{side}_tokens": [workload.rows(side)[row] for row in range(min(number, len(workload.rows(side))))]
            for side, number in _NUM_ROWS.items()
        },
        labels={side: workload.labels(side)[:number].tolist() for side, number in _NUM_ROWS.items()},
        sources=said.sources,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", type=Path, help="where workloads are kept (default: written anew)")
    args = parser.parse_args()
    sides = (OURS, *PEERS)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        workload = shortened(prepare(WORK, (args.workloads or root) / WORK), root / "short")
        plan = Plan("", "", 0.0, STEPS, SAVE_EVERY_STEPS, kill_after_steps=KILL_AFTER_STEPS)
        runner = Runner(workload.directory, root / "runs", plan=plan)
        for side in sides:
            kill(side, runner)
        seconds = first_steps(sides, runner)
        found = {side.name: measure(side, runner, plan=plan, seconds=seconds[side.name]) for side in sides}
    for name, result in found.items():
        print(name, result)
    print(write_results("training_resume", rows(found), packages=("torch", "transformers", "pytorch-lightning")))


if __name__ == "__main__":
    main()
