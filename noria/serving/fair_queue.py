"""What waits, client by client: each gets its share of the work, however much of it each brings.

What is taken is charged to its client, and the next is of the client that was charged least: the virtual token
counter of Sheng et al. 2024 (arXiv:2401.00588), in the tradition of fair queueing (Demers et al. 1989,
doi:10.1145/75246.75248). Of one client the first to come is the first to go; with one client alone, so is all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import Generic, Protocol, TypeVar

_MOST_REMEMBERED = 1_000


class Waits(Protocol):
    """An item, of a client; items are told apart by identity."""

    @property
    def client(self) -> str:
        """Whose it is."""
        ...


T = TypeVar("T", bound=Waits)


class FairQueue(Generic[T]):
    """Items that wait. A client is remembered while it has any, and a thousand that had some while others wait."""

    def __init__(self, *, cost_of: Callable[[T], float]) -> None:
        """`cost_of` an item is more than 0."""
        self._cost_of = cost_of
        self._queues: dict[str, dict[T, None]] = {}
        self._charged: dict[str, float] = {}
        self._num_items = 0

    def __len__(self) -> int:
        return self._num_items

    def __contains__(self, item: T) -> bool:
        return item in self._queues.get(item.client, ())

    def put(self, items: Iterable[T]) -> None:
        """They wait from now on. Who comes has no claim to what it did not use: it begins with the least charged."""
        for item in items:
            queue = self._queues.get(item.client)
            if queue is None:
                least = min((self._charged[client] for client in self._queues), default=0.0)
                self._charged[item.client] = max(self._charged.get(item.client, 0.0), least)
                queue = self._queues[item.client] = {}
            queue[item] = None
            self._num_items += 1

    def discard(self, item: T) -> None:
        """It waits no more, if it did."""
        if item not in self:
            return
        queue = self._queues[item.client]
        del queue[item]
        self._num_items -= 1
        if not queue:
            del self._queues[item.client]
            self._forget()

    def take(self, items: Iterable[T]) -> None:
        """They go, at the cost of their clients."""
        for item in items:
            self._charged[item.client] += self._cost_of(item)
            self.discard(item)

    def in_turn(self) -> Iterator[T]:
        """All, in the order in which they go if each goes alone."""
        if len(self._queues) == 1:
            yield from next(iter(self._queues.values()))
            return
        turns = [
            (self._charged[client], number, iter(queue)) for number, (client, queue) in enumerate(self._queues.items())
        ]
        heapify(turns)
        while turns:
            charged, number, queue = turns[0]
            item = next(queue, None)
            if item is None:
                heappop(turns)
                continue
            heapreplace(turns, (charged + self._cost_of(item), number, queue))
            yield item

    def _forget(self) -> None:
        """Charges of clients that went, all of them when nobody waits."""
        if not self._queues:
            self._charged.clear()
        elif len(self._charged) > len(self._queues) + _MOST_REMEMBERED:
            self._charged = {client: self._charged[client] for client in self._queues}
