"""What keeps a training from ruin: losses that are no numbers, divergence, and a process that is told to end."""

from __future__ import annotations

import logging
import math
import signal
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from noria.config import GuardConfig
from noria.errors import Preempted, TrainingError
from noria.events import emit
from noria.training.distributed import Ranks
from noria.training.recipe import Phase
from noria.training.state import TrainingState

logger = logging.getLogger(__name__)

_ROWS_TOLD = 5
_WINDOW_STEPS = 20
_HARMLESS = 1.0  # loss per target that is no divergence, though a model that was well trained began far below
_FEW_STEPS = 10  # that say as much, where no more will come
_DEAD_STEPS = 10  # left out in a row: the weights are at fault, not the rows of a batch
_LOOK_AT_ROWS = (
    "look at the rows that the log names (all of them: its `left_out` events), or try `train.precision: fp32`"
)


class Diverged(Exception):
    """The loss is far too high, or no number: training goes back to where it was well."""


class Guard:
    """Judges steps and points; `row_id` names a training row by its number."""

    def __init__(self, config: GuardConfig, *, row_id: Callable[[int], str]) -> None:
        self._config = config
        self._row_id = row_id

    def tell_skipped(self, phase: Phase, step: int, *, loss: float, norm: float, accumulate: int) -> None:
        """Log a step that was left out, with the rows that it was made of: the first few, and all in an event."""
        rows = [row for i in range(accumulate) for row in phase.objective.batch(step * accumulate + i).rows.tolist()]
        ids = [self._row_id(row) for row in rows]
        emit("left_out", phase=phase.name, step=step, rows=ids)
        told = ", ".join(ids[:_ROWS_TOLD])
        more = f" and {len(rows) - _ROWS_TOLD} more" if len(rows) > _ROWS_TOLD else ""
        logger.warning(
            "phase `%s`, step %d is left out: loss %g, gradient norm %g; rows %s%s",
            phase.name,
            step,
            loss,
            norm,
            told,
            more,
        )

    def judge(self, state: TrainingState, *, last: bool = False) -> None:
        """Judge a point of the learning curves; after the `last`, no hold-out will, and fewer steps must do.

        Raises
        ------
        Diverged
            When the median loss of many steps is far above what it was, or no step has been taken for long.
        TrainingError
            When too many steps were left out: their rows are at fault.
        """
        if state.skipped_in_a_row >= _DEAD_STEPS:
            raise Diverged(f"the loss became no number: {state.skipped_in_a_row} steps in a row were left out")
        if state.skipped > self._config.max_skipped:
            raise TrainingError(
                f"{state.skipped} steps were left out: their loss or gradient was no finite number",
                where=f"phase `{state.phase}`, step {state.step}",
                expected=f"at most {self._config.max_skipped} (`train.guard.max_skipped`)",
                next_step=_LOOK_AT_ROWS,
            )
        if len(state.recent) < (_FEW_STEPS if last else _WINDOW_STEPS):
            return
        level = statistics.median(state.recent)  # of many steps: one batch, or the few at an epoch's end, prove nothing
        state.first_loss = state.recent[0] if math.isinf(state.first_loss) else state.first_loss
        state.lowest_loss = min(state.lowest_loss, state.first_loss, level)
        if level > self._limit(state):
            raise Diverged(f"the loss became {level:g}, above {self._limit(state):g}")
        state.recent = []

    def well(self, state: TrainingState) -> bool:
        """Whether nothing hints at trouble: no other state is worth going back to, so no other is saved in passing.

        A divergence that begins makes some losses huge and others 0, long before it moves the median: one loss
        that is far too high puts saving off until `judge` has spoken.
        """
        if state.skipped_in_a_row or not state.recent:
            return not state.skipped_in_a_row
        return max(state.recent) <= self._limit(state)

    def diverging(self, state: TrainingState) -> bool:
        """Whether `judge` would raise if training went on so; unlike `well`, it forgives a wild batch.

        A process that is told to end leaves no such state behind: it would be what training goes back to.
        """
        if state.skipped_in_a_row or not state.recent:
            return state.skipped_in_a_row > 0
        return statistics.median(state.recent) > self._limit(state)

    def conclude(self, state: TrainingState) -> None:
        """Judge a phase that has ended: few steps, all of them left out, are no training.

        Raises
        ------
        TrainingError
            When half of its steps or more were left out, up to the last.
        """
        if 2 * state.skipped_in_a_row >= state.step:
            raise TrainingError(
                f"the last {state.skipped_in_a_row} of {state.step} steps were left out: "
                "their loss or gradient was no finite number",
                where=f"the end of phase `{state.phase}`",
                expected="steps that are taken",
                next_step=_LOOK_AT_ROWS,
            )

    def bound(self, state: TrainingState, divergence: Diverged) -> None:
        """Log a divergence after which training goes back.

        Raises
        ------
        TrainingError
            When there were too many.
        """
        if state.rollbacks >= self._config.max_rollbacks:
            raise TrainingError(
                f"{divergence}, after {state.rollbacks} rollbacks and {state.skipped} steps left out",
                where=f"phase `{state.phase}`, step {state.step}",
                expected="a finite loss that falls",
                next_step="lower `lr` and `muon_lr` of `train` and `train.pretrain`, or set `train.precision: fp32`",
            ) from divergence
        logger.warning("phase `%s`, step %d: diverged: %s", state.phase, state.step, divergence)

    def _limit(self, state: TrainingState) -> float:
        first = state.recent[0] if math.isinf(state.first_loss) else state.first_loss  # nothing has been judged yet
        return max(first, self._config.divergence * min(first, state.lowest_loss), _HARMLESS)


class Interruption:
    """Whether the process was told to end (SIGTERM): it saves first, and what started it may try again."""

    def __init__(self) -> None:
        self.requested = False

    def came(self, ranks: Ranks) -> bool:
        """Whether any rank was told to; every rank must ask."""
        return ranks.any(self.requested)

    def preempted(self, *, phase: str, step: int) -> Preempted:
        """The error to raise once the state is saved."""
        return Preempted(
            "training was told to end (SIGTERM); its state is saved",
            where=f"phase `{phase}`, step {step}",
            next_step="run it again: it goes on from here",
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """SIGTERM is a request inside the block, instead of an end."""
        with _on_sigterm(self._request):
            yield
        if self.requested:  # too late for the block to see
            signal.raise_signal(signal.SIGTERM)

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True


@contextmanager
def preemptible() -> Iterator[None]:
    """SIGTERM raises `Preempted` inside the block, wherever that is, except where an `Interruption` watches."""
    with _on_sigterm(_preempt):
        yield


@contextmanager
def _on_sigterm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The handler inside the block, and what was there before behind it; signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _preempt(signum: int, frame: FrameType | None) -> None:
    raise Preempted(
        "training was told to end (SIGTERM)",
        where="outside of its steps",
        next_step="run it again: it goes on from what is saved, or begins again where nothing is yet",
    )


def finite(loss: float) -> float:
    """`loss` of the hold-out, if it is a number.

    Raises
    ------
    Diverged
        When it is none.
    """
    if math.isfinite(loss):
        return loss
    raise Diverged(f"the loss became {loss} on the hold-out")
