"""Rows of concurrent requests, computed together.

All of it but the computing happens in the event loop, so that nothing needs a lock: a row that is
waiting is an entry of one dict, and to forget it is to delete the entry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice

from noria.evaluation.inference import MAX_ROWS
from noria.serving.predictor import Encoded, Predictor

Answer = Mapping[str, object]
_WINDOW = 128  # rows among which those of like length are looked for


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A row that waits, and where its answer goes."""

    encoded: Encoded
    predictor: Predictor
    answer: asyncio.Future[Answer]
    since_s: float
    deadline_s: float


class Batcher:
    """Gathers rows into batches, and computes these on threads.

    With all workers idle a row goes at once. While some are busy, the others wait for the budget to
    be full, or for the oldest row to have waited long enough. A batch begins with the oldest row,
    and takes those that are nearest to it in length; it never mixes predictors. Where a batch fails,
    its rows are computed one by one, so that a row fails by itself alone.
    """

    def __init__(
        self,
        *,
        workers: int,
        batch_tokens: int,
        max_delay_s: float,
        too_late: Callable[[], Exception],
        on_batch: Callable[[int, int], None],
    ) -> None:
        """`too_late` makes the error of a row whose deadline has passed; `on_batch` is told rows and tokens done."""
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="noria-batch")
        self._num_workers = workers
        self._batch_tokens = batch_tokens
        self._max_delay_s = max_delay_s
        self._too_late = too_late
        self._on_batch = on_batch
        self._waiting: dict[_Waiting, None] = {}
        self._num_busy = 0
        self._is_arranging = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_waiting(self) -> int:
        """Rows that are not being computed yet."""
        return len(self._waiting)

    @contextmanager
    def asking(
        self, batch: Sequence[Encoded], *, predictor: Predictor, deadline_s: float
    ) -> Iterator[list[asyncio.Future[Answer]]]:
        """The answers to come, one a row; what is not being computed at the end of the block never is.

        `deadline_s` is on the clock of `time.monotonic`.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        rows = [_Waiting(encoded, predictor, loop.create_future(), now, deadline_s) for encoded in batch]
        self._waiting.update(dict.fromkeys(rows))
        self._arrange_soon()
        try:
            yield [row.answer for row in rows]
        finally:
            for row in rows:
                self._waiting.pop(row, None)
                if not row.answer.cancel() and not row.answer.cancelled():
                    row.answer.exception()  # seen, also by those who asked for many and stopped at the first

    def close(self) -> None:
        """Compute nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _arrange_soon(self) -> None:
        """Once for all that comes in this turn of the loop."""
        if not self._is_arranging:
            self._is_arranging = True
            asyncio.get_running_loop().call_soon(self._arrange)

    def _arrange(self) -> None:
        self._is_arranging = False
        now = time.monotonic()
        self._give_up(now)
        while self._waiting and self._num_busy < self._num_workers:
            batch, is_full = self._next_batch()
            if self._num_busy and not is_full and now < batch[0].since_s + self._max_delay_s:
                break
            self._start(batch)
        self._look_again(now)

    def _give_up(self, now: float) -> None:
        """Rows whose deadline has passed; the oldest come first, and deadlines in the order of coming, or nearly so."""
        while self._waiting and (oldest := next(iter(self._waiting))).deadline_s <= now:
            del self._waiting[oldest]
            if not oldest.answer.done():
                oldest.answer.set_exception(self._too_late())

    def _look_again(self, now: float) -> None:
        """When the oldest row has waited for company long enough, or too long for its answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            oldest = next(iter(self._waiting))
            is_gathering = self._num_busy < self._num_workers
            at = oldest.since_s + self._max_delay_s if is_gathering else oldest.deadline_s
            self._timer = asyncio.get_running_loop().call_later(max(at - now, 0.0), self._arrange)

    def _next_batch(self) -> tuple[list[_Waiting], bool]:
        """The oldest row with those most like it, oldest first among equals; and whether no other fits."""
        oldest = next(iter(self._waiting))
        near = [row for row in islice(self._waiting, _WINDOW) if row.predictor is oldest.predictor]
        near.sort(key=lambda row: abs(row.encoded.longest_tokens - oldest.encoded.longest_tokens))
        batch: list[_Waiting] = []
        num_pieces, longest = 0, 0
        for row in near:
            num_pieces += len(row.encoded.pieces)
            longest = max(longest, row.encoded.longest_tokens)
            if batch and (num_pieces > MAX_ROWS or num_pieces * longest > self._batch_tokens):
                return batch, True
            batch.append(row)
        return batch, num_pieces >= MAX_ROWS

    def _start(self, batch: Sequence[_Waiting]) -> None:
        for row in batch:
            self._waiting.pop(row, None)
        self._num_busy += 1
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, batch[0].predictor.answer_encoded, [row.encoded for row in batch]
        )
        work.add_done_callback(partial(self._finish, batch))

    def _finish(self, batch: Sequence[_Waiting], work: asyncio.Future[list[Answer]]) -> None:
        self._num_busy -= 1
        if work.cancelled():
            for row in batch:
                row.answer.cancel()
            return
        error = work.exception()
        if error is None:
            self._on_batch(len(batch), sum(row.encoded.num_tokens for row in batch))
            for row, answer in zip(batch, work.result(), strict=True):
                if not row.answer.done():
                    row.answer.set_result(answer)
        elif len(batch) > 1:
            for row in batch:
                if not row.answer.done():
                    self._start([row])
        elif not batch[0].answer.done():
            batch[0].answer.set_exception(error)
        self._arrange()
