"""Requests that a challenger answers unseen, once the client has its answer, and while there is nothing else to do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from noria.scenarios.base import Row
from noria.serving.lineup import Serving
from noria.serving.predictor import Predictor
from noria.serving.tally import Answer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shadowed:
    """What came of it."""

    answers: Sequence[Answer]
    seconds: float


class Shadows:
    """One request at a time, row by row, on a thread of its own; what comes meanwhile is dropped, not kept.

    It gives way between two rows as soon as clients wait. So what a client may meet of it is one row that is being
    computed beside its own.
    """

    def __init__(self, *, is_busy: Callable[[], bool]) -> None:
        """`is_busy`: whether anything of a client waits or is computed; it is also asked by the thread."""
        self._is_busy = is_busy
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="noria-shadow")
        self._is_at_work = False

    def follow(self, challenger: Serving, rows: Sequence[Row], champions: Sequence[asyncio.Future[Answer]]) -> None:
        """Give the challenger what the champion has answered; returns at once."""
        if any(answer.cancelled() or not answer.done() or answer.exception() for answer in champions):
            return
        if self._is_at_work or self._is_busy():
            challenger.tally.dropped += 1
            return
        self._is_at_work = True
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._answers, challenger.predictor, rows)
        work.add_done_callback(partial(self._count, challenger, [answer.result() for answer in champions]))

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answers(self, predictor: Predictor, rows: Sequence[Row]) -> _Shadowed | None:
        """On the thread; None where it gave way."""
        started = time.perf_counter()
        answers: list[Answer] = []
        for row in rows:
            if self._is_busy():
                return None
            answers += predictor.answer_encoded(predictor.encode([row]))
        return _Shadowed(answers, time.perf_counter() - started)

    def _count(self, challenger: Serving, champions: Sequence[Answer], work: asyncio.Future[_Shadowed | None]) -> None:
        self._is_at_work = False
        if work.cancelled():
            return
        if (error := work.exception()) is not None:
            logger.error("the shadow %s failed; no client saw it", challenger.version, exc_info=error)
            challenger.tally.errors += 1
        elif (shadowed := work.result()) is None:
            challenger.tally.dropped += 1
        else:
            challenger.tally.answered(shadowed.answers, seconds=shadowed.seconds)
            challenger.tally.compared(shadowed.answers, champions)
