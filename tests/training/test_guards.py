"""Steps without a number are left out and counted; a training that diverges goes back, and not for ever."""

import json
import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn
from training_fixtures import Listener, branch, labels, masked_tokens, phase_of, same_weights, small_job, some_tokens

from noria.config import GuardConfig
from noria.errors import Preempted, TrainingError
from noria.events import record
from noria.model.text_classifier import DeepBranch
from noria.training import loop
from noria.training.batch import Batch
from noria.training.distributed import Ranks
from noria.training.guards import Diverged, Guard, Interruption, finite, preemptible
from noria.training.recipe import Fit, Objective
from noria.training.report import training_table
from noria.training.run import Outcome, run_job
from noria.training.state import StateStore, Sums, TrainingState

Change = Callable[[int, torch.Tensor], torch.Tensor]
"""(number of the step, its loss) -> the loss that training sees."""


class Changed:
    """Labels whose loss is changed at some steps; which step it is, is told by the batch."""

    def __init__(self, change: Change) -> None:
        self.inner = labels(some_tokens(56), batch_tokens=32)
        self.change = change
        self.index = -1

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, index: int) -> Batch:
        self.index = index
        return self.inner.batch(index)

    def largest(self) -> Batch:
        return self.inner.largest()

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return self.change(self.index, self.inner.loss(model, batch))


def train(
    directory: Path,
    objective: Objective,
    *,
    epochs: float = 3.0,
    judge: Callable[[], Mapping[str, float]] | None = None,
    **changes: object,
) -> tuple[DeepBranch, Listener, Outcome]:
    deep, told = branch(), Listener()
    phase = phase_of(objective, deep, lr=float(str(changes.get("lr", 1e-2))), epochs=epochs, judge=judge)
    return deep, told, run_job(small_job(directory, deep, [phase], told=told, **changes))


def state_of(directory: Path) -> TrainingState:
    saved = StateStore(directory, fingerprint="small").load()
    assert saved is not None
    return saved.state


def test_one_step_without_a_number_is_left_out_and_told_with_its_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = Changed(lambda step, loss: loss * math.nan if step == 7 else loss)
    with caplog.at_level(logging.WARNING), record(tmp_path / "events.jsonl"):
        deep, told, _ = train(tmp_path, objective, checkpoint_every_s=1e-9)
    assert state_of(tmp_path).skipped == 1
    (warning,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    rows = objective.inner.batch(7).rows.tolist()
    assert "step 7" in warning and "loss nan" in warning
    assert all(f"row-{row}" in warning for row in rows[:5])
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["kind"] == "left_out"]
    assert event["step"] == 7 and event["rows"] == [f"row-{row}" for row in rows]  # every one of them
    assert all(math.isfinite(value) for _, values in told.curve() for value in values.values())
    assert told.curve()[-1][0] == 3 * len(objective)
    assert all(torch.isfinite(tensor).all() for tensor in deep.state_dict().values())
    again, _, _ = train(tmp_path / "another", Changed(lambda step, loss: loss + math.inf if step == 7 else loss))
    assert same_weights(deep.state_dict(), again.state_dict())  # whatever the step was, it is left out


def test_the_only_step_of_a_point_may_be_left_out(tmp_path: Path) -> None:
    """At an epoch's end a point can be of one step: its batch is bad, not the weights."""
    num_steps = len(Changed(lambda step, loss: loss))
    last = num_steps - 1
    assert num_steps % 20
    objective = Changed(lambda step, loss: loss * math.nan if step in range(last // 20 * 20, num_steps) else loss)
    assert num_steps - last // 20 * 20 < 10
    _, told, _ = train(tmp_path, objective, epochs=1.0)
    assert told.curve()[-1][0] == num_steps and "train_loss" not in told.curve()[-1][1]


def test_too_many_steps_without_a_number_end_training(tmp_path: Path) -> None:
    objective = Changed(lambda step, loss: loss * math.nan if step % 3 == 0 else loss)
    with pytest.raises(TrainingError, match="7 steps were left out") as caught:
        train(tmp_path, objective, guard={"max_skipped": 6})
    assert "train.guard.max_skipped" in str(caught.value) and "rows" in str(caught.value)
    train(tmp_path / "more", objective, epochs=1.0, guard={"max_skipped": 10})


def test_when_no_step_has_a_number_any_more_training_goes_back_and_then_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = Changed(lambda step, loss: loss * math.nan if step >= 25 else loss)
    with pytest.raises(TrainingError, match=r"the loss became no number.* after 2 rollbacks"):
        train(tmp_path, objective)
    rates = [record.getMessage() for record in caplog.records if "of the learning rate" in record.getMessage()]
    assert [rate.split("at ")[-1] for rate in rates] == ["0.5 of the learning rate", "0.25 of the learning rate"]


def test_a_loss_that_grows_goes_back_so_often_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    objective = Changed(lambda step, loss: loss * 100 if step >= 20 else loss)
    with pytest.raises(TrainingError, match="after 1 rollbacks") as caught:
        train(tmp_path, objective, guard={"max_rollbacks": 1}, checkpoint_every_s=1e-9)
    assert "lower `lr`" in str(caught.value)
    told = [record.getMessage() for record in caplog.records if "back at" in record.getMessage()]
    assert told == ["back at step 20, at 0.5 of the learning rate"]  # the save before it grew, not those since


def test_told_to_end_in_trouble_it_keeps_the_good_state_to_go_back_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told_to_end = False

    def change(step: int, loss: torch.Tensor) -> torch.Tensor:
        nonlocal told_to_end
        if step == 35 and not told_to_end:
            told_to_end = True
            os.kill(os.getpid(), signal.SIGTERM)
        return loss * 100 if step >= 20 else loss

    settings = {"guard": {"max_rollbacks": 1}, "checkpoint_every_s": 1e-9}
    with pytest.raises(Preempted):
        train(tmp_path, Changed(change), **settings)
    assert state_of(tmp_path).step == 20 and "the last good state stays" in caplog.text
    with pytest.raises(TrainingError, match="after 1 rollbacks"):
        train(tmp_path, Changed(change), **settings)
    told = [record.getMessage() for record in caplog.records if "back at" in record.getMessage()]
    assert told == ["back at step 20, at 0.5 of the learning rate"]


def test_one_wild_batch_is_no_divergence(tmp_path: Path) -> None:
    objective = Changed(lambda step, loss: loss * 1e4 if step in (5, 30) else loss)
    train(tmp_path, objective, guard={"max_rollbacks": 0})


def test_after_a_divergence_at_a_high_rate_it_ends_well_at_a_lower_one(tmp_path: Path) -> None:
    """The rate is too high from the first step; there is no save yet but that of the beginning.

    The lower rate, 0.009, is far below what this model bears (about 0.05), whatever the processor rounds to.
    """
    objective = Changed(lambda step, loss: loss)
    wild = {"optimizer": "sgd", "lr": 3.0, "max_grad_norm": 1e9, "checkpoint_every_s": 1e9}
    with pytest.raises(TrainingError):
        train(tmp_path / "wild", objective, epochs=4.0, guard={"max_rollbacks": 0}, **wild)
    deep, told, _ = train(tmp_path, objective, epochs=4.0, guard={"max_rollbacks": 3, "rollback_rate": 0.003}, **wild)
    losses = [values["train_loss"] for _, values in told.curve() if "train_loss" in values]
    assert losses[-1] < 0.65 and 1 <= state_of(tmp_path).rollbacks < 3
    assert all(torch.isfinite(tensor).all() for tensor in deep.state_dict().values())


def test_so_it_does_where_every_state_that_looks_well_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved while the loss began to rise is a state that a lower rate leads out of."""
    monkeypatch.setattr(loop, "_LOOK_EVERY_S", 0.0)
    wild = {"optimizer": "sgd", "lr": 3.0, "max_grad_norm": 1e9, "checkpoint_every_s": 1e-9}
    guard = {"max_rollbacks": 3, "rollback_rate": 0.003}
    _, told, _ = train(tmp_path, Changed(lambda step, loss: loss), epochs=4.0, guard=guard, **wild)
    losses = [values["train_loss"] for _, values in told.curve() if "train_loss" in values]
    assert losses[-1] < 0.75 and 1 <= state_of(tmp_path).rollbacks <= 3


def test_the_best_epoch_stays_the_best_behind_a_rollback(tmp_path: Path) -> None:
    """The second epoch, the best, is behind the save that training goes back to: its weights are still there."""
    objective = Changed(lambda step, loss: loss)
    length, seen = len(objective), []
    deep, told = branch(), Listener()
    said = iter([0.5, 0.3, math.nan, 0.9, 0.8])

    def judge() -> Mapping[str, float]:
        seen.append({name: tensor.clone() for name, tensor in deep.state_dict().items()})
        return {"holdout_loss": next(said)}

    phase = phase_of(objective, deep, lr=1e-3, epochs=3.0, judge=judge)
    outcome = run_job(small_job(tmp_path, deep, [phase], told=told, checkpoint_every_s=1e9, patience=2))
    assert outcome.facts["best_epoch"] == 2 and outcome.facts["best_loss"] == 0.3
    assert same_weights(deep.state_dict(), seen[1]) and len(seen) == 5  # patience counts from the rollback on
    steps = [point.step for point in outcome.history]
    assert steps == sorted(steps) and steps[-1] == 2 * length and [p.step for p in told.points] != steps
    assert "| Transformer's hold-out loss, best epoch | 0.3000 |" in training_table(outcome.history, best_loss=0.3)


@pytest.mark.parametrize("num_taken", [0, 1, 4])
def test_a_short_phase_that_took_no_step_or_hardly_any_is_no_training(num_taken: int, tmp_path: Path) -> None:
    objective = Changed(lambda step, loss: loss * math.nan if step >= num_taken else loss)
    with pytest.raises(TrainingError, match=f"the last {8 - num_taken} of 8 steps were left out") as caught:
        train(tmp_path, objective, epochs=8 / len(objective))
    assert "`left_out`" in str(caught.value)


def test_a_divergence_at_the_end_is_found_where_no_holdout_would(tmp_path: Path) -> None:
    objective = Changed(lambda step, loss: loss * 100 if step >= 20 else loss)
    changes = {"guard": {"max_rollbacks": 0}, "epochs": 34 / len(objective)}
    with pytest.raises(TrainingError, match="the loss became"):
        train(tmp_path / "alone", objective, **changes)
    train(tmp_path / "judged", objective, judge=lambda: {"holdout_loss": 0.5}, **changes)  # it has kept the best


def test_told_to_end_in_the_epoch_that_patience_ends_it_goes_on_behind_the_phase(tmp_path: Path) -> None:
    def told_in(step: int) -> Objective:
        sent = []

        def change(at: int, loss: torch.Tensor) -> torch.Tensor:
            if at == step and not sent:
                sent.append(at)
                os.kill(os.getpid(), signal.SIGTERM)
            return loss

        return Changed(change)

    def go(directory: Path, objective: Objective, losses: list[float]) -> tuple[DeepBranch, Listener, Outcome]:
        said = iter(losses)
        judge = lambda: {"holdout_loss": next(said)}  # noqa: E731
        return train(directory, objective, epochs=5.0, judge=judge, patience=1)

    last = 2 * len(told_in(-1)) - 1
    with pytest.raises(Preempted, match="its state is saved"):
        go(tmp_path / "ended", told_in(last), [0.5, 0.6])
    assert state_of(tmp_path / "ended").step == last + 1
    resumed, curve, outcome = go(tmp_path / "ended", told_in(-1), [])  # no epoch is judged any more
    whole, expected, uninterrupted = go(tmp_path / "whole", told_in(-1), [0.5, 0.6])
    assert same_weights(resumed.state_dict(), whole.state_dict())
    assert curve.curve() == expected.curve() and dict(outcome.facts) == dict(uninterrupted.facts)


def test_a_holdout_without_a_number_is_a_divergence_too(tmp_path: Path) -> None:
    said = iter([0.5, math.nan, 0.4, 0.3])
    _, told, outcome = train(
        tmp_path, Changed(lambda step, loss: loss), judge=lambda: {"holdout_loss": next(said)}, checkpoint_every_s=1e-9
    )
    assert state_of(tmp_path).rollbacks == 1 and outcome.facts["best_epoch"] == 3
    assert [values["holdout_loss"] for _, values in told.curve() if "holdout_loss" in values] == [0.5, 0.4, 0.3]


def test_a_rollback_is_not_forgotten_by_a_process_that_is_killed_behind_it(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    deep = branch()
    batches = 0

    def change(step: int, loss: torch.Tensor) -> torch.Tensor:
        nonlocal batches
        batches += 1
        if batches > 45:
            raise Killed
        return loss * 100 if step >= 20 else loss

    with pytest.raises(Killed):
        run_job(small_job(tmp_path, deep, [phase_of(Changed(change), deep, epochs=3.0)], told=Listener()))
    assert (state_of(tmp_path).rollbacks, state_of(tmp_path).rate) == (1, 0.5)


def judged(*levels: float) -> TrainingState:
    """A state in which windows of these losses have been judged, one after the other."""
    state, guard = TrainingState(phase="train"), Guard(GuardConfig(), row_id=str)
    for level in levels:
        state.recent = [level] * 20
        state.since_report = Sums(level, 1)
        guard.judge(state)
    return state


def test_divergence_is_far_above_the_lowest_and_above_the_first() -> None:
    judged(5.0, 1.0, 2.9)
    judged(5.0, 1.0, 5.0)
    with pytest.raises(Diverged, match=r"became 5\.1, above 5"):
        judged(5.0, 1.0, 5.1)
    with pytest.raises(Diverged, match=r"became 12\.1, above 12"):
        judged(4.0, 12.1)


def test_a_small_loss_may_multiply() -> None:
    """A model that goes on from another starts near its best: noise is no divergence there."""
    judged(0.02, 0.001, 0.3, 0.9)
    with pytest.raises(Diverged):
        judged(0.02, 0.001, 1.1)


def test_a_loss_far_above_that_of_the_first_step_is_divergence_at_once() -> None:
    state = TrainingState(phase="train", recent=[0.7] + [50.0] * 19)
    with pytest.raises(Diverged):
        Guard(GuardConfig(), row_id=str).judge(state)


def test_a_state_in_trouble_is_not_saved_to_go_back_to() -> None:
    guard = Guard(GuardConfig(), row_id=str)
    assert guard.well(TrainingState(phase="train"))
    assert guard.well(TrainingState(phase="train", recent=[0.7, 0.9, 0.6]))
    assert guard.well(TrainingState(phase="train", recent=[3.9, 4.1, 4.0]))  # noise of the first steps
    assert not guard.well(TrainingState(phase="train", recent=[0.7, 14.6, 0.0]))  # so a divergence begins
    assert not guard.well(TrainingState(phase="train", skipped_in_a_row=1))
    assert not guard.well(TrainingState(phase="train", first_loss=2.0, lowest_loss=1.0, recent=[3.1]))


def test_what_judging_would_go_back_from_is_diverging_and_noise_is_not() -> None:
    guard = Guard(GuardConfig(), row_id=str)
    assert not guard.diverging(TrainingState(phase="train"))
    assert not guard.diverging(TrainingState(phase="train", recent=[3.9, 4.1, 4.0]))
    assert guard.diverging(TrainingState(phase="train", recent=[3.9, 50.0, 60.0]))
    assert guard.diverging(TrainingState(phase="train", skipped_in_a_row=1))
    assert not guard.diverging(TrainingState(phase="train", first_loss=2.0, lowest_loss=1.0, recent=[2.9]))
    assert guard.diverging(TrainingState(phase="train", first_loss=2.0, lowest_loss=1.0, recent=[3.1]))


def test_a_state_is_saved_as_often_as_asked_from_the_first_step_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_LOOK_EVERY_S", 0.0)  # as where steps are long
    deep, seen = branch(), []
    objective = masked_tokens(some_tokens(56), batch_tokens=32)
    phase = phase_of(objective, deep, name="pretrain", lr=1e-3, head=deep.masked_token_head)
    job = small_job(tmp_path, deep, [phase], told=Listener(), checkpoint_every_s=1e-9)
    write = job.store.save
    monkeypatch.setattr(job.store, "save", lambda state, **more: (seen.append(state.step), write(state, **more)))
    run_job(job)
    assert seen == list(range(len(objective) + 1))


def test_few_steps_prove_nothing() -> None:
    state = TrainingState(phase="train", first_loss=0.7, lowest_loss=0.1, recent=[100.0] * 19)
    Guard(GuardConfig(), row_id=str).judge(state)
    assert len(state.recent) == 19  # they count when there are more


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_not_finite(loss: float) -> None:
    with pytest.raises(Diverged, match="on the hold-out"):
        finite(loss)


def test_a_signal_inside_the_block_is_a_request_and_outside_it_what_it_was() -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("outside"))
    try:
        interruption = Interruption()
        with pytest.raises(RuntimeError), interruption.watched():
            os.kill(os.getpid(), signal.SIGTERM)
            assert interruption.came(Ranks())
            raise RuntimeError
        assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["outside"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_came_too_late_for_the_block_is_passed_on() -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("outside"))
    try:
        with Interruption().watched():
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["outside"]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_the_steps_a_signal_is_the_error_that_is_tried_again(tmp_path: Path) -> None:
    def end() -> Mapping[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as caught, preemptible():
        run_job(small_job(tmp_path, branch(), [Fit("end", end)], told=Listener()))
    assert "saved;" not in str(caught.value) and signal.getsignal(signal.SIGTERM) is before


def test_a_thread_that_gets_no_signals_trains_all_the_same() -> None:
    done = []

    def work() -> None:
        with Interruption().watched():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
