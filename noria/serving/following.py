"""To follow a store: look, try what is new there once, and again after a while; and tell of what failed."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from noria.errors import BundleError, NoriaError, StoreError
from noria.serving.bundle import open_bundle
from noria.serving.deployment import prove_apart
from noria.serving.golden import prove
from noria.serving.live import Live
from noria.serving.pointer import Canary, Production
from noria.serving.predictor import Predictor
from noria.serving.session import Device
from noria.serving.store import ModelStore

logger = logging.getLogger(__name__)

_TRY_AGAIN_S = 60.0


@dataclass(frozen=True)
class NotServed:
    """What the store wants to be served, and is not here.

    Attributes
    ----------
    version, reason:
        Which, and why not.
    since:
        When the store began to want it: a version that is wanted anew is tried anew.
    tried_s:
        When it was tried last, on the clock of the follower.
    """

    version: str
    reason: str
    since: str
    tried_s: float


class Following(ABC):
    """What those who follow a store have in common; `not_served` is the version that failed here, if one did."""

    def __init__(
        self,
        live: Live,
        store: ModelStore,
        *,
        load: Callable[[ModelStore, str], Predictor],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live = live
        self._store = store
        self._load = load
        self._clock = clock
        self._is_lost = False
        self.not_served: NotServed | None = None

    def follow(self, every_s: float, ended: threading.Event) -> None:
        """Look again and again, until the end."""
        while not ended.wait(every_s):
            try:
                self.look()
            except Exception:
                logger.exception("%s: following the store failed; it goes on", self._live.name)

    def look(self) -> None:
        """Do what the store says, if it is anything new. Blocks as long as that takes."""
        try:
            production = self._store.production()
        except (StoreError, OSError) as error:
            if not self._is_lost:  # once, not every second
                logger.warning("%s: the store does not say what is live: %s", self._live.name, error)
            self._is_lost = True
            return
        self._is_lost = False
        self._meet(production)

    @abstractmethod
    def _meet(self, production: Production | None) -> None:
        """What the store says."""

    def _is_due(self, wanted: Production | Canary) -> bool:
        failed = self.not_served
        if failed is None or (failed.version, failed.since) != (wanted.version, wanted.since):
            return True
        return self._clock() >= failed.tried_s + _TRY_AGAIN_S

    def _failed(self, wanted: Production | Canary, error: Exception, *, wish: str) -> None:
        """Go on as before, and say so: at /readyz, in the log and, once, in the journal."""
        reason = error.what if isinstance(error, NoriaError) else str(error)
        goes_on = self._live.predictor.version
        logger.error("%s: %s %s, but %s goes on serving: %s", self._live.name, wanted.version, wish, goes_on, error)
        is_new = self.not_served is None or self.not_served.version != wanted.version
        self.not_served = NotServed(wanted.version, reason, wanted.since, self._clock())
        if is_new:
            try:
                self._store.journal.record("not-served", wanted.version, reason=reason)
            except (StoreError, OSError) as lost:
                logger.warning("%s: the journal was not told: %s", self._live.name, lost)


def load_proven(store: ModelStore, version: str, *, threads: int, device: Device = "auto") -> Predictor:
    """A published version, which answered its golden requests in a process of its own and then here.

    Raises
    ------
    BundleError
        When it is damaged, does not load, or answers otherwise than when it was made.
    StoreError
        When there is no such version.
    """
    published = store.fetch(version)  # verified, before another process is asked to open it
    prove_apart(store, version)
    predictor = Predictor(open_bundle(published.path), threads=threads, device=device)
    prove(predictor)
    return predictor


def refuse_another_scenario(old: Predictor, new: Predictor) -> None:
    """Nothing, when clients can ask both the same.

    Raises
    ------
    BundleError
        When they can't.
    """
    before, after = old.bundle.scenario.name, new.bundle.scenario.name
    if before != after:
        raise BundleError(
            f"it is a model of `{after}`, and clients ask one of `{before}`",
            where=str(new.bundle.artifact.path),
            expected=f"a model of `{before}`",
            next_step="give it a name of its own (`name` in params.yaml), and serve both",
        )
