"""What concurrent requests want done, done together on threads.

All of it but the work itself happens in the event loop, so that nothing needs a lock: an item that is
waiting is an entry of a dict, and to forget it is to delete the entry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count, islice
from typing import Generic, TypeVar

from noria.evaluation.inference import MAX_ROWS
from noria.serving.fair_queue import FairQueue
from noria.serving.predictor import Predictor

_WINDOW = 128  # items among which those of like length are looked for
_SPARE = 64  # deadlines of items that wait no more

I = TypeVar("I")  # noqa: E741 - an item
O = TypeVar("O")  # noqa: E741 - what becomes of it


@dataclass(frozen=True)
class Size:
    """How large an item is: so many pieces, padded to the longest of a batch, or with `is_alone` to itself."""

    num_pieces: int
    longest_tokens: int
    is_alone: bool = False

    @property
    def num_tokens(self) -> int:
        """Padding included."""
        return self.num_pieces * self.longest_tokens


@dataclass(frozen=True, eq=False, repr=False)  # what asyncio logs of a failed callback holds no payload
class _Waiting(Generic[I, O]):
    """An item that waits, and where its answer goes."""

    item: I
    size: Size
    client: str
    predictor: Predictor
    answer: asyncio.Future[O]
    since_s: float
    deadline_s: float


class Batcher(Generic[I, O]):
    """Gathers items into batches, and works on these on threads.

    With all workers idle an item goes at once. While some are busy, the others wait for the budget to
    be full, or for the oldest item to have waited long enough. A batch begins with the item whose turn
    it is, and takes those that are nearest to it in length; it never mixes predictors. Where a batch fails,
    its items are worked on one by one, so that an item fails by itself alone.
    """

    def __init__(
        self,
        work: Callable[[Predictor, Sequence[I]], Sequence[O]],
        *,
        size_of: Callable[[I], Size],
        workers: int,
        batch_tokens: int,
        max_delay_s: float,
        too_late: Callable[[], Exception],
        on_done: Callable[[Sequence[I]], None] = lambda batch: None,
    ) -> None:
        """Nothing is begun.

        `work` is called on the threads, and `on_done` is told of each batch that went well; `too_late` makes the
        error of an item whose deadline has passed.
        """
        self._work = work
        self._size_of = size_of
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="noria-batch")
        self._num_workers = workers
        self._batch_tokens = batch_tokens
        self._max_delay_s = max_delay_s
        self._too_late = too_late
        self._on_done = on_done
        self._waiting: FairQueue[_Waiting[I, O]] = FairQueue(cost_of=lambda one: max(one.size.num_tokens, 1))
        self._deadlines: list[tuple[float, int, _Waiting[I, O]]] = []  # a heap; of some that wait no more, too
        self._numbers = count()
        self._num_busy = 0
        self._is_arranging = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_waiting(self) -> int:
        """Items that are not worked on yet."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether no item waits or is worked on; any thread may ask."""
        return not self._waiting and not self._num_busy

    @contextmanager
    def asking(
        self, items: Sequence[I], *, client: str, predictor: Predictor, deadline_s: float
    ) -> Iterator[list[asyncio.Future[O]]]:
        """The answers to come, one an item; what is not being worked on at the end of the block never is.

        Work is shared fairly among clients; `deadline_s` is on the clock of `time.monotonic`.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        waiting: list[_Waiting[I, O]] = [
            _Waiting(item, self._size_of(item), client, predictor, loop.create_future(), now, deadline_s)
            for item in items
        ]
        self._waiting.put(waiting)
        self._remember(waiting)
        self._arrange_soon()
        try:
            yield [one.answer for one in waiting]
        finally:
            for one in waiting:
                self._waiting.discard(one)
                if not one.answer.cancel() and not one.answer.cancelled():
                    one.answer.exception()  # seen, also by those who asked for many and stopped at the first

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _remember(self, waiting: Sequence[_Waiting[I, O]]) -> None:
        """Their deadlines. While one item waits long, others come and go, each as large as what was asked."""
        for one in waiting:
            heappush(self._deadlines, (one.deadline_s, next(self._numbers), one))
        if len(self._deadlines) > 2 * len(self._waiting) + _SPARE:
            self._deadlines = [entry for entry in self._deadlines if entry[-1] in self._waiting]
            heapify(self._deadlines)

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
            self._waiting.take(batch)
            self._start(batch)
        self._look_again(now)

    def _give_up(self, now: float) -> None:
        """Items whose deadline has passed. Who came later may have less time: reading took longer, say."""
        while (one := self._most_urgent()) is not None and one.deadline_s <= now:
            self._waiting.discard(one)
            if not one.answer.done():
                one.answer.set_exception(self._too_late())

    def _most_urgent(self) -> _Waiting[I, O] | None:
        """Of those that wait."""
        while self._deadlines and self._deadlines[0][-1] not in self._waiting:
            heappop(self._deadlines)
        return self._deadlines[0][-1] if self._deadlines else None

    def _look_again(self, now: float) -> None:
        """When the item whose turn it is has waited for company long enough, or any too long for its answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (one := self._most_urgent()) is not None:
            at = one.deadline_s
            if self._num_busy < self._num_workers:
                at = min(at, next(self._waiting.in_turn()).since_s + self._max_delay_s)
            self._timer = asyncio.get_running_loop().call_later(max(at - now, 0.0), self._arrange)

    def _next_batch(self) -> tuple[list[_Waiting[I, O]], bool]:
        """The item whose turn it is with those most like it, in turn among equals; and whether no other fits."""
        first, *others = islice(self._waiting.in_turn(), _WINDOW)
        if first.size.is_alone:
            return [first], True
        near = [first, *(one for one in others if one.predictor is first.predictor and not one.size.is_alone)]
        near.sort(key=lambda one: abs(one.size.longest_tokens - first.size.longest_tokens))
        batch: list[_Waiting[I, O]] = []
        num_pieces, longest = 0, 0
        for one in near:
            num_pieces += one.size.num_pieces
            longest = max(longest, one.size.longest_tokens)
            if batch and (num_pieces > MAX_ROWS or num_pieces * longest > self._batch_tokens):
                return batch, True
            batch.append(one)
        return batch, num_pieces >= MAX_ROWS

    def _start(self, batch: Sequence[_Waiting[I, O]]) -> None:
        self._num_busy += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._results, batch)
        work.add_done_callback(partial(self._finish, batch))

    def _results(self, batch: Sequence[_Waiting[I, O]]) -> Sequence[O]:
        """On a thread: what becomes of the items."""
        if all(one.deadline_s <= time.monotonic() for one in batch):  # one by one, after the others of a failed batch
            raise self._too_late()
        found = self._work(batch[0].predictor, [one.item for one in batch])
        assert len(found) == len(batch), "one result an item"
        return found

    def _finish(self, batch: Sequence[_Waiting[I, O]], work: asyncio.Future[Sequence[O]]) -> None:
        self._num_busy -= 1
        if work.cancelled():
            for one in batch:
                one.answer.cancel()
            return
        error = work.exception()
        if error is None:
            self._on_done([one.item for one in batch])
            for one, answer in zip(batch, work.result(), strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)
        elif len(batch) > 1:
            for one in batch:
                if not one.answer.done():
                    self._start([one])
        elif not batch[0].answer.done():
            batch[0].answer.set_exception(error)
        self._arrange()
