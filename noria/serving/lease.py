"""A lease on a model in its store: of all machines that share the store, one run at a time changes the model.

<name>/lease.json   who holds it and when that was last confirmed; swapped conditionally, never deleted

A holder confirms it every `BEAT_S` seconds. Who waits takes it over once it has seen the same object for
`EXPIRY_S` by its own clock: no two clocks are compared, so none has to be right (Gray and Cheriton, Leases,
1989, need bounded drift only). A holder that could not confirm it for nearly so long gives it up by its own clock.

A holder that is stopped for minutes and goes on before it notices does no harm either: the store itself fences
the effects. Versions are named by their content and never change, events are created once, and
the pointer moves by compare-and-swap from what the verdict was reached against
(docs/decisions/0023-leases-and-crashed-runs.md).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from noria.errors import StoreError
from noria.serving.objects import Objects, Stored

BEAT_S = 15.0
EXPIRY_S = 60.0
_POLL_S = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes
    ----------
    run:
        Prefect's id of the flow run; empty for what is no flow.
    host, pid, workspace:
        Where it runs.
    since, beat:
        When it was taken and last confirmed (UTC, ISO 8601, by the holder's clock): for people.
    is_released:
        It was given back.
    """

    run: str
    host: str
    pid: int
    workspace: str
    since: str = ""
    beat: str = ""
    is_released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, in {self.workspace}, since {self.since}"

    def is_same(self, other: Holder | None) -> bool:
        """Whether both are one taking of the lease, whenever it was confirmed."""
        return other is not None and replace(self, beat="", is_released=False) == replace(
            other, beat="", is_released=False
        )


class Watched:
    """The lease of one model as an observer sees it, who remembers for how long it has not changed."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._key = f"{name}/lease.json"
        self._seen: tuple[str, float] | None = None

    def look(self) -> tuple[Holder | None, Stored | None]:
        """Who holds it (None: nobody does), and the object as it is.

        Raises
        ------
        StoreError
            When the store does not answer.
        """
        stored = self._objects.read(self._key)
        if stored is None:
            return None, None
        if self._seen is None or self._seen[0] != stored.tag:
            self._seen = stored.tag, time.monotonic()
        holder = _holder(stored.data)
        return (None if holder is None or holder.is_released else holder), stored

    @property
    def unchanged_s(self) -> float:
        """For how long the same object has been seen."""
        return time.monotonic() - self._seen[1] if self._seen else 0.0

    def write(self, holder: Holder, over: Stored | None) -> str | None:
        """Put `holder` there in place of what was seen; the new object's tag, None when somebody was faster."""
        data = json.dumps(asdict(holder), indent=2).encode() + b"\n"
        if over is None:
            self._objects.create(self._key, data)
        else:
            self._objects.swap(self._key, data, over.tag)
        stored = self._objects.read(self._key)
        return stored.tag if stored is not None and stored.data == data else None


class Lease:
    """A lease that is held, and confirmed by a thread until it is released or lost.

    Another thread holds the clock against it: a store that takes minutes not to answer keeps the first one waiting.
    """

    def __init__(self, watched: Watched, holder: Holder, tag: str, *, lost: Callable[[str], None]) -> None:
        self._watched, self._holder, self._tag, self._lost = watched, holder, tag, lost
        self._done, self._confirmed = threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._clock = threading.Thread(target=self._count, name="lease clock", daemon=True)
        self._thread.start()
        self._clock.start()

    def release(self) -> None:
        """Give it back, if it is still ours. A store that does not answer lets it expire."""
        self._done.set()
        self._thread.join()
        try:
            self._confirm(replace(self._holder, is_released=True))
        except StoreError as error:
            logger.warning("the lease is left to expire within %g s: %s", EXPIRY_S, error.what)

    def _beat(self) -> None:
        while not self._done.wait(BEAT_S):
            asked = time.monotonic()
            try:
                if not self._confirm(replace(self._holder, beat=_now())):
                    self._lose("another run has taken it over")
                self._confirmed = asked
            except StoreError as error:
                logger.warning("the lease could not be confirmed: %s", error.what)

    def _count(self) -> None:
        most_s = EXPIRY_S - BEAT_S
        while (left_s := self._confirmed + most_s - time.monotonic()) > 0:
            if self._done.wait(left_s):
                return
        self._lose(f"the store has not answered for {most_s:g} s")

    def _lose(self, why: str) -> None:
        if not self._done.is_set():
            self._done.set()
            self._lost(why)

    def _confirm(self, holder: Holder) -> bool:
        tag = self._watched.write(holder, Stored(b"", self._tag))
        if tag is None:  # unless a put of ours won that we were told had failed
            found, stored = self._watched.look()
            tag = self._watched.write(holder, stored) if holder.is_same(found) else None
        self._tag = tag or self._tag
        return tag is not None


def take(
    objects: Objects, name: str, holder: Holder, *, wait_s: float, is_gone: Callable[[Holder], bool]
) -> tuple[Watched, Holder, str, Holder | None]:
    """Take the lease of model `name`, waiting up to `wait_s` for whoever holds it.

    `is_gone` tells of a holder that can be known to be dead without waiting for its lease to expire. Returns what
    `Lease` wants, and the holder that it was taken from, which did not give it back.

    Raises
    ------
    StoreError
        When the store does not answer.
    TimeoutError
        When it is still held, naming the holder.
    """
    watched, until, is_told = Watched(objects, name), time.monotonic() + wait_s, False
    while True:
        found, stored = watched.look()
        if found is None or is_gone(found) or watched.unchanged_s > EXPIRY_S:
            mine = replace(holder, since=_now(), beat=_now())
            if (tag := watched.write(mine, stored)) is not None:
                return watched, mine, tag, found
        elif time.monotonic() > until:
            raise TimeoutError(str(found))
        elif not is_told:
            logger.warning("waiting up to %g s: the model is held by %s", wait_s, found)
            is_told = True
        if found is not None:
            time.sleep(min(_POLL_S, max(until - time.monotonic(), 0.1)))


def _holder(data: bytes) -> Holder | None:
    """None also for what nobody could have written: an object that can't be read must not stop every run."""
    try:
        return Holder(**json.loads(data))
    except (ValueError, TypeError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
