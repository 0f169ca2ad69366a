"""The kill-and-resume benchmark: its measures are right, and our side of it is exact."""

import os
import sys

import pytest
import torch
from safetensors.torch import save_file

from benchmarks.peers.resumable_loader import Positioned, ResumableLoader
from benchmarks.peers.resume_plan import Plan
from benchmarks.peers.resume_runner import Runner, halve, kill, newest
from benchmarks.training_resume import (
    OURS,
    PEERS,
    Difference,
    Found,
    difference,
    require_mid_epoch,
    rows,
)
from benchmarks.workloads.prepare import prepare
from noria.errors import TrainingError

EXACT = Difference(equal=True, largest=0.0)


def found(**changes):
    """A contender that is exact, but for `changes`."""
    return Found(
        **{
            "again": EXACT,
            "resumed": EXACT,
            "damaged": EXACT,
            "validation_loss": 0.0,
            "steps_done_again": 15,
            "other_batches": 0,
            "fetched_more": 0.0,
            "fresh_s": 4.0,
            "resumed_s": 4.3,
        }
        | changes
    )


def weights(path, *values):
    save_file({"weight": torch.tensor(values)}, path)
    return path


def test_equal_weights_are_told_from_nearly_equal_ones(tmp_path):
    one, same = (weights(tmp_path / name, 1.0, -2.0) for name in ("one", "same"))
    other = weights(tmp_path / "other", 1.0, -2.5)
    assert difference(one, same) == EXACT
    assert difference(one, other) == Difference(equal=False, largest=0.5)


def test_zeros_of_other_signs_are_not_bitwise_equal(tmp_path):
    one, other = weights(tmp_path / "one", 0.0), weights(tmp_path / "other", -0.0)
    assert difference(one, other) == Difference(equal=False, largest=0.0)


def test_the_newest_checkpoint_is_a_file_or_the_largest_of_a_folder(tmp_path):
    for number, (step, name, size) in enumerate([(20, "optimizer.pt", 90), (40, "model", 30), (40, "state.json", 3)]):
        path = tmp_path / f"checkpoint-{step}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)

        os.utime(path, ns=(number, number))
    assert newest(tmp_path, "checkpoint-*/*") == tmp_path / "checkpoint-40" / "model"
    halve(tmp_path / "checkpoint-40" / "model")
    assert (tmp_path / "checkpoint-40" / "model").stat().st_size == 15
    assert newest(tmp_path / "checkpoint-40", "*.json").name == "state.json"


def test_a_resume_at_the_end_of_an_epoch_or_in_the_first_proves_too_little():
    require_mid_epoch(OURS, 60, steps_per_epoch=45)
    for step in (0, 40, 45, 90):
        with pytest.raises(TrainingError, match="resumed at step"):
            require_mid_epoch(OURS, step, steps_per_epoch=45)


def test_a_peer_that_is_not_exact_gets_its_numbers_and_one_that_is_gets_its_due():
    poor = found(resumed=Difference(equal=False, largest=0.123456), damaged=None, other_batches=90, fetched_more=2.0)
    result = rows({side.name: found() for side in (OURS, *PEERS)} | {PEERS[1].name: poor})
    by_claim = {(row.peer, row.claim.split(":")[0], row.unit): row for row in result}
    equal = "bitwise equal (1 = yes)"
    kill_rows = {row.peer: row for row in result if row.claim.startswith("SIGKILL") and row.unit == equal}
    assert [kill_rows[peer.name].theirs for peer in PEERS] == [1, 0, 1]
    assert all(row.ours == 1 and row.bar == 1 for row in kill_rows.values())
    goes_on = by_claim[PEERS[1].name, "newest checkpoint half-written", "goes on (1 = yes)"]
    assert (goes_on.ours, goes_on.theirs) == (1, 0)
    assert by_claim[PEERS[1].name, "the same", "steps"].theirs == 90
    assert by_claim[None, "resume inside an epoch", "s"].ours == pytest.approx(0.3)


def test_every_row_has_a_ratio_or_none_also_beside_a_zero():
    zero = found(resumed=Difference(equal=False, largest=0.0), damaged=None)
    for row in rows({side.name: found() for side in (OURS, *PEERS)} | {PEERS[0].name: zero}):
        assert row.ratio is None or row.ratio >= 0


def test_the_resumable_loader_goes_on_with_the_batches_that_were_left():
    data = [{"row": torch.tensor(row)} for row in range(10)]

    def loader():
        return ResumableLoader(data, batch_size=4, seed=3, collate=lambda items: {"row": items})

    def read(batches, number):
        return [[int(item["row"]) for item in next(batches)["row"]] for _ in range(number)]

    first = loader()
    epochs = [read(iter(first), 3) for _ in range(2)]
    assert all(sorted(row for batch in epoch for row in batch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    stopped = loader()
    read(iter(stopped), 3)
    assert read(iter(stopped), 1) == epochs[1][:1]
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert read(iter(resumed), 2) == epochs[1][1:]
    assert len(Positioned(10, batch_size=4, seed=3)) == 3


@pytest.mark.slow
def test_a_killed_noria_is_bitwise_equal_also_from_the_checkpoint_before(tmp_path):
    workload = prepare("text-classification", tmp_path / "workload", tiny=True)
    plan = Plan("", "", 0.0, steps=50, save_every_steps=20, kill_after_steps=38, threads=1, batch_tokens=1_024)
    runner = Runner(workload.directory, tmp_path / "runs", plan=plan, python=sys.executable)
    whole = runner.need(OURS, "whole")
    kill(OURS, runner)
    halve(newest(runner.copy(OURS, "killed", to="damaged"), OURS.checkpoints))
    resumed, damaged = (runner.need(OURS, name, resume=True) for name in ("killed", "damaged"))
    assert len(whole.report.batches) == 50
    for again in (resumed, damaged):
        assert 12 <= len(again.report.batches) < 50
        assert again.report.batches == whole.report.batches[-len(again.report.batches) :]
        assert again.report.fetched_batches == 1
        assert difference(whole.weights, again.weights) == EXACT
    assert len(damaged.report.batches) > len(resumed.report.batches)
    assert resumed.report.validation_loss == whole.report.validation_loss
