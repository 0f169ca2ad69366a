"""A training that is told to end, at any step, goes on to bitwise the same end; no batch is built twice for it."""

import os
import signal
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from training_fixtures import (
    Listener,
    branch,
    fit,
    labels,
    masked_tokens,
    phase_of,
    ragged,
    same_weights,
    small_job,
    some_tokens,
)

from noria.errors import Preempted
from noria.model.text_classifier import DeepBranch
from noria.training.batch import Batch
from noria.training.loop import REPORT_EVERY_STEPS
from noria.training.probe import num_cores
from noria.training.recipe import Fit, Objective, Phase
from noria.training.run import Outcome, _age, _choose, _least_parts, _pass, run_job
from noria.training.state import Choices, Saved, TrainingState


class Watched:
    """An objective that counts what is asked of it, and tells the process to end when it comes to some batch."""

    def __init__(self, inner: Objective, *, ends_at: int | None = None) -> None:
        self.inner = inner
        self.ends_at = ends_at
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, index: int) -> Batch:
        self.asked.append(index)
        if index == self.ends_at and len(self.asked) > 1:  # the first is the probe's
            os.kill(os.getpid(), signal.SIGTERM)
        return self.inner.batch(index)

    def largest(self) -> Batch:
        return self.inner.largest()

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return self.inner.loss(model, batch)


def guess() -> Objective:
    return masked_tokens(some_tokens(56), batch_tokens=32)


def tell() -> Objective:
    return labels(some_tokens(56), batch_tokens=32, token_mask=0.2, clause_shuffle=0.5)


def judged(deep: DeepBranch) -> Callable[[], Mapping[str, float]]:
    """A hold-out that the weights are judged on."""
    objective = labels(some_tokens(20), batch_tokens=10_000)

    def judge() -> Mapping[str, float]:
        deep.eval()
        with torch.inference_mode():
            return {"holdout_loss": float(objective.loss(deep, objective.batch(0))) / 20}

    return judge


def recipe(deep: DeepBranch, first: Objective, second: Objective) -> list[Fit | Phase]:
    return [
        fit("prepare"),
        phase_of(first, deep, name="pretrain", lr=1e-2, epochs=1.5, head=deep.masked_token_head),
        phase_of(second, deep, lr=1e-2, epochs=2.0, schedule="cosine", judge=judged(deep)),
        fit("blend", final_loss=0.5),
    ]


def train(
    directory: Path, *, first: Objective, second: Objective, seed: int = 0, dropout: float = 0.0, **changes: object
) -> tuple[DeepBranch, Listener, Outcome]:
    deep, told = branch(seed, dropout=dropout), Listener()
    outcome = run_job(small_job(directory, deep, recipe(deep, first, second), told=told, **changes))
    return deep, told, outcome


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[DeepBranch, Listener, Outcome]:
    return train(tmp_path_factory.mktemp("whole"), first=guess(), second=tell(), optimizer="muon")


def stop_and_go_on(
    directory: Path, phase: int, step: int, **changes: object
) -> tuple[DeepBranch, Listener, Outcome, Watched]:
    """Train, be told to end in the given step of a phase, and go on with other weights than the first time."""
    objectives = [guess(), tell()]
    objectives[phase] = Watched(objectives[phase], ends_at=step)
    with pytest.raises(Preempted, match="its state is saved"):
        train(directory, first=objectives[0], second=objectives[1], **changes)
    watched = [Watched(guess()), Watched(tell())]
    deep, told, outcome = train(directory, first=watched[0], second=watched[1], seed=9, **changes)
    return deep, told, outcome, watched[phase]


@pytest.mark.slow
@given(step=st.integers(0, 2 * len(tell()) - 1))
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_told_to_end_at_any_step_it_goes_on_to_bitwise_the_same_end(
    step: int,
    uninterrupted: tuple[DeepBranch, Listener, Outcome],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole, curve, outcome = uninterrupted
    deep, told, resumed, watched = stop_and_go_on(tmp_path_factory.mktemp("stopped"), 1, step, optimizer="muon")
    assert same_weights(deep.state_dict(), whole.state_dict())
    assert told.curve() == curve.curve()
    assert dict(resumed.facts) == dict(outcome.facts)
    assert watched.asked == list(range(step + 1, 2 * len(watched)))  # O(1): none before it, each after it once


@pytest.mark.parametrize("step", [0, 11, 19, 20, pytest.param(30, marks=pytest.mark.slow)])
def test_so_it_does_in_an_earlier_phase(
    step: int, uninterrupted: tuple[DeepBranch, Listener, Outcome], tmp_path: Path
) -> None:
    whole, curve, _ = uninterrupted
    deep, told, _, watched = stop_and_go_on(tmp_path, 0, step, optimizer="muon")
    assert same_weights(deep.state_dict(), whole.state_dict())
    assert told.curve() == curve.curve()
    assert watched.asked == list(range(step + 1, round(1.5 * len(watched))))


@pytest.mark.parametrize(
    "changes",
    [
        {"average": {"kind": "ema", "decay": 0.9}, "accumulate": 2},
        pytest.param({"accumulate": 3}, marks=pytest.mark.slow),
        {"lora": {"rank": 2}, "optimizer": "muon"},
        {"dropout": 0.2, "activation_checkpointing": True},
        pytest.param({"average": {"kind": "tail", "tail_share": 0.6}}, marks=pytest.mark.slow),
        pytest.param({"lora": {"rank": 2}, "optimizer": "adamw"}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "sgd", "lr": 0.1, "activation_checkpointing": True}, marks=pytest.mark.slow),
        pytest.param({"precision": "bf16"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_so_it_does_with_other_settings(changes: dict[str, object], tmp_path: Path) -> None:
    whole, curve, _ = train(tmp_path / "whole", first=guess(), second=tell(), **changes)
    deep, told, _, _ = stop_and_go_on(tmp_path / "stopped", 1, len(tell()) + 7, **changes)
    assert same_weights(deep.state_dict(), whole.state_dict())
    assert told.curve() == curve.curve()


@pytest.mark.slow
def test_a_training_that_is_stopped_time_and_again_comes_to_the_same_end(
    uninterrupted: tuple[DeepBranch, Listener, Outcome], tmp_path: Path
) -> None:
    whole, curve, _ = uninterrupted
    for phase, step in ((0, 3), (0, 3 + 1), (0, 21), (1, 2), (1, 20), (1, len(tell())), (1, len(tell()) + 7)):
        objectives = [guess(), tell()]
        objectives[phase] = Watched(objectives[phase], ends_at=step)
        objectives[phase].asked.append(-1)
        with pytest.raises(Preempted):
            train(tmp_path, first=objectives[0], second=objectives[1], optimizer="muon")
    deep, told, _ = train(tmp_path, first=guess(), second=tell(), seed=9, optimizer="muon")
    assert same_weights(deep.state_dict(), whole.state_dict())
    assert told.curve() == curve.curve()


def test_points_are_told_at_the_same_steps_and_at_the_end_of_epochs(
    uninterrupted: tuple[DeepBranch, Listener, Outcome],
) -> None:
    _, told, outcome = uninterrupted
    steps = [step for step, values in told.curve() if "train_loss" in values]
    epoch = len(tell())
    assert epoch % REPORT_EVERY_STEPS
    expected = {*range(REPORT_EVERY_STEPS, 2 * epoch + 1, REPORT_EVERY_STEPS), epoch, 2 * epoch}
    assert steps == sorted(expected)
    assert [step for step, values in told.curve() if "holdout_loss" in values] == [epoch, 2 * epoch]
    assert outcome.facts["final_loss"] == 0.5 and outcome.choices["precision"] == "fp32"


@pytest.mark.parametrize(
    ("accumulate", "ends"), [(1, [11, 22]), (2, [6, 11]), (5, [3, 4]), (6, [2, 4]), (16, [1]), (64, [1])]
)
def test_epochs_are_passes_over_the_batches_however_many_make_a_step(
    accumulate: int, ends: list[int], tmp_path: Path
) -> None:
    """No batch is left out of an epoch for being none of a whole step: the step is of two epochs."""
    deep, told = branch(), Listener()
    objective = Watched(labels(ragged([np.arange(3, 11)] * 22), batch_tokens=16))
    assert len(objective) == 11
    phase = phase_of(objective, deep, lr=1e-3, epochs=2.0, judge=judged(deep))
    outcome = run_job(small_job(tmp_path, deep, [phase], told=told, accumulate=accumulate))
    assert [step for step, values in told.curve() if "holdout_loss" in values] == ends
    assert objective.asked[-accumulate * ends[-1] :] == list(range(accumulate * ends[-1]))
    assert outcome.facts["best_epoch"] in (1, 2, accumulate * ends[-1] // 11)


def test_a_run_that_only_does_what_follows_still_knows_how_the_phases_ran(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill() -> Mapping[str, float]:
        raise Killed

    def last(run: Callable[[], Mapping[str, float]], seed: int) -> Outcome:
        deep = branch(seed)
        parts = [phase_of(tell(), deep, lr=1e-2, judge=judged(deep)), Fit("blend", run)]
        return run_job(small_job(tmp_path / "state", deep, parts, told=Listener()))

    with pytest.raises(Killed):
        last(kill, 0)
    outcome = last(lambda: {"final_loss": 0.5}, 9)
    assert {"precision": "fp32", "threads": 1, "compiled": False, "parts": 1}.items() <= outcome.facts.items()
    assert outcome.facts["best_epoch"] == 1


def walked(directory: Path, kind: str) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """A weight before each of two epochs' steps, as the hold-out judged it, and at the end."""
    deep = branch()
    before: list[torch.Tensor] = []
    judged: list[torch.Tensor] = []

    class Seen(Watched):
        def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
            before.append(deep.head.output.weight.detach().clone())
            return super().loss(model, batch)

    def judge() -> Mapping[str, float]:
        judged.append(deep.head.output.weight.detach().clone())
        return {"holdout_loss": 1.0 / len(judged)}

    phase = phase_of(Seen(tell()), deep, lr=1e-2, epochs=2.0, judge=judge)
    run_job(small_job(directory, deep, [phase], told=Listener(), average={"kind": kind, "tail_share": 0.5}))
    return before[-2 * len(tell()) :], judged, deep.head.output.weight.detach()


@pytest.mark.parametrize("rank", [0, 2])
def test_ended_between_the_phases_or_in_a_fit_it_loses_nothing(rank: int, tmp_path: Path) -> None:
    """There the process just ends: what the phase before has learned is on disk, whatever was adapted in it."""

    class Ended(Exception):
        pass

    class Mute(Watched):
        def batch(self, index: int) -> Batch:
            raise Ended

    def end() -> Mapping[str, float]:
        raise Ended

    changes = {"lora": {"rank": rank}}
    whole, curve, _ = train(tmp_path / "whole", first=guess(), second=tell(), **changes)
    for first, second, blend in ((Mute(guess()), tell(), None), (guess(), Mute(tell()), None), (guess(), tell(), end)):
        deep = branch()
        parts = recipe(deep, first, second)
        parts[-1] = parts[-1] if blend is None else Fit("blend", blend)
        job = small_job(tmp_path / "ended", deep, parts, told=Listener(), **changes)
        with pytest.raises(Ended):
            run_job(job)
        job.store.settle()  # a process that ends leaves no writer behind, which the next would meet
    deep, told, _ = train(tmp_path / "ended", first=Mute(guess()), second=Mute(tell()), seed=9, **changes)
    assert same_weights(deep.state_dict(), whole.state_dict())
    assert told.curve() == curve.curve()


def test_a_disk_that_is_full_costs_no_training_but_whoever_is_told_to_end_hears_of_it(
    uninterrupted: tuple[DeepBranch, Listener, Outcome], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _, _ = uninterrupted
    (tmp_path / "file").write_text("there is no room for a directory of this name")
    directory = tmp_path / "file"
    deep, _, _ = train(directory, first=guess(), second=tell(), optimizer="muon", checkpoint_every_s=1e-9)
    assert same_weights(deep.state_dict(), whole.state_dict())
    assert "could not be saved" in caplog.text
    with pytest.raises(OSError):
        train(directory, first=guess(), second=Watched(tell(), ends_at=5), optimizer="muon")


def test_the_weights_that_are_judged_and_kept_are_the_averaged_ones(tmp_path: Path) -> None:
    steps, plain, last = walked(tmp_path / "none", "none")
    same, averaged, kept = walked(tmp_path / "tail", "tail")
    assert all(torch.equal(one, other) for one, other in zip(steps, same, strict=True))  # it only looks on
    assert torch.equal(plain[1], last)
    half = len(tell())
    assert torch.equal(averaged[0], steps[half])  # before the average begins
    torch.testing.assert_close(averaged[1], torch.stack([*steps[half + 1 :], last]).mean(0))
    assert torch.equal(kept, averaged[1]) and not torch.equal(kept, last)


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    deep = branch()
    said = iter([0.9, 0.5, 0.6, 0.7, 0.1])
    seen: list[dict[str, torch.Tensor]] = []

    def judge() -> Mapping[str, float]:
        seen.append({name: tensor.clone() for name, tensor in deep.state_dict().items()})
        return {"holdout_loss": next(said)}

    phase = phase_of(tell(), deep, lr=1e-2, epochs=5.0, judge=judge)
    outcome = run_job(small_job(tmp_path, deep, [phase], told=Listener(), patience=2))
    assert len(seen) == 4 and outcome.facts["best_epoch"] == 2
    assert same_weights(deep.state_dict(), seen[1])


@pytest.mark.slow
def test_a_deterministic_training_chooses_without_a_clock_and_ends_twice_the_same(tmp_path: Path) -> None:
    found = []
    try:
        for name in ("one", "other"):
            deep, _, outcome = train(
                tmp_path / name, first=guess(), second=tell(), deterministic=True, precision="auto", threads=0
            )
            expected = {"precision": "fp32", "threads": num_cores(), "compiled": False}
            assert expected.items() <= outcome.choices.items()
            found.append({name: tensor.clone() for name, tensor in deep.state_dict().items()})
    finally:
        torch.use_deterministic_algorithms(False)
    assert same_weights(found[0], found[1])


def test_a_resumed_run_keeps_what_was_probed(tmp_path: Path) -> None:
    stopped = Watched(tell(), ends_at=5)
    with pytest.raises(Preempted):
        train(tmp_path, first=guess(), second=stopped, precision="bf16")
    _, _, outcome = train(tmp_path, first=guess(), second=tell(), precision="fp32")
    assert outcome.choices["precision"] == "bf16"


def test_no_two_saves_of_a_training_are_of_one_age(tmp_path: Path) -> None:
    """Not that of entering a phase and the first in it, and not that of going back and the one it went back to."""
    deep, chosen = branch(), Choices("fp32", 1)
    states = [
        TrainingState("pretrain", step=40),
        TrainingState("train"),
        TrainingState("train", choices=chosen),
        TrainingState("train", step=40, choices=chosen),
        TrainingState("train", step=20, choices=chosen, rollbacks=1),
        TrainingState("train", step=40, choices=chosen, rollbacks=1),
    ]
    job = small_job(tmp_path, deep, recipe(deep, guess(), tell()), told=Listener())
    ages = [_age(job, saved) for saved in (None, *(Saved(state, {}, {}) for state in states))]
    assert all(older < newer for older, newer in pairwise(ages))


def test_resumed_on_as_many_ranks_a_batch_is_cut_no_less_than_before() -> None:
    before = Choices("bf16", 1, parts=4, ranks=1)
    assert _least_parts(before, num_ranks=1, accumulate=1) == 4
    assert _least_parts(before, num_ranks=2, accumulate=1) == 2  # other ranks need other parts
    assert _least_parts(Choices("bf16", 1), num_ranks=4, accumulate=6) == 2


def test_a_batch_that_is_cut_in_the_probe_is_timed_whole(tmp_path: Path) -> None:
    passed: list[int] = []

    class Small(Watched):
        """Fits into memory by two rows."""

        def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
            if len(batch.rows) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            passed.append(len(batch.rows))
            return super().loss(model, batch)

    deep, objective = branch(), Small(labels(ragged([np.arange(3, 11)] * 40), batch_tokens=64))
    phase = phase_of(objective, deep)
    _choose(small_job(tmp_path, deep, [phase], told=Listener()), phase, num_passes=1)
    assert passed == [2] * 8  # twice, four parts each


def test_a_pass_that_fails_midway_leaves_no_gradient() -> None:
    deep = branch()
    reached: list[bool] = []

    def fail(grad: torch.Tensor) -> None:
        reached.append(deep.head.output.weight.grad is not None)
        raise RuntimeError("a graph that the compiler can't do")

    deep.frontend.tokens.register_hook(fail)
    objective = tell()
    with pytest.raises(RuntimeError, match="can't do"):
        _pass(phase_of(objective, deep), objective.batch(0))
    assert reached == [True] and all(param.grad is None for param in deep.parameters())


def test_without_a_word_from_outside_nothing_is_interrupted(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    train(tmp_path, first=guess(), second=tell())
    assert signal.getsignal(signal.SIGTERM) is before
