"""What keeps a training from ruin: losses that are no numbers, divergence, and a process that is told to end."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from noria.config import GuardConfig
from noria.errors import Preempted, TrainingError
from noria.training.distributed import Ranks
from noria.training.recipe import Phase
from noria.training.state import TrainingState

logger = logging.getLogger(__name__)

_ROWS_TOLD = 5


class Guard:
    """Judges steps and points; `row_id` names a training row by its number."""

    def __init__(self, config: GuardConfig, *, row_id: Callable[[int], str]) -> None:
        self._config = config
        self._row_id = row_id

    def tell_skipped(self, phase: Phase, step: int, *, loss: float, norm: float, accumulate: int) -> None:
        """Log a step that was left out, with the rows that it was made of."""
        rows = [row for i in range(accumulate) for row in phase.objective.batch(step * accumulate + i).rows.tolist()]
        told = ", ".join(self._row_id(row) for row in rows[:_ROWS_TOLD])
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

    def diverged(self, state: TrainingState, mean: float, *, all_skipped: bool) -> bool:
        """Whether the point of a mean loss, or of steps that were all left out, is one of divergence.

        Raises
        ------
        TrainingError
            When there were too many of either.
        """
        if not all_skipped:
            state.first_loss = mean if math.isinf(state.first_loss) else state.first_loss
            state.lowest_loss = min(state.lowest_loss, mean)
        limit = max(state.first_loss, self._config.divergence * state.lowest_loss)
        if not all_skipped and mean <= limit and state.skipped <= self._config.max_skipped:
            return False
        if state.rollbacks >= self._config.max_rollbacks:
            what = f"the loss became {mean:g}" if not all_skipped else "the loss became no number"
            raise TrainingError(
                f"{what}, after {state.rollbacks} rollbacks and {state.skipped} steps left out",
                where=f"phase `{state.phase}`, step {state.step}",
                expected=f"a finite loss below {limit:g}",
                next_step="lower `train.lr` and `train.muon_lr`, also those of `train.pretrain`, or try `train.precision: fp32`",
            )
        logger.warning("phase `%s`, step %d: diverged (mean loss %g, limit %g)", state.phase, state.step, mean, limit)
        return True


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
        """SIGTERM is a request inside the block, instead of an end; signals reach the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._request)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True


def finite(loss: float, *, phase: str, step: int) -> float:
    """`loss`, if it is a number.

    Raises
    ------
    TrainingError
        When it is none.
    """
    if math.isfinite(loss):
        return loss
    raise TrainingError(
        f"the loss on the hold-out became {loss}",
        where=f"phase `{phase}`, step {step}",
        expected="a finite number",
        next_step="lower `train.lr` (and `train.pretrain.lr`), or set `train.precision: fp32`",
    )
