"""A served model follows what its store says is live: load, prove, swap; what fails leaves the old version serving."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from noria.errors import BundleError, NoriaError, StoreError
from noria.serving.bundle import open_bundle
from noria.serving.deployment import prove_apart
from noria.serving.golden import prove
from noria.serving.live import Live
from noria.serving.predictor import Predictor
from noria.serving.session import Device
from noria.serving.store import ModelStore, Production

logger = logging.getLogger(__name__)

_TRY_AGAIN_S = 60.0


@dataclass(frozen=True)
class NotServed:
    """What is live in the store and not here.

    Attributes
    ----------
    version, reason:
        Which, and why not.
    since:
        When it went live in the store: a version that goes live anew is tried anew.
    tried_s:
        When it was tried last, on the clock of the follower.
    """

    version: str
    reason: str
    since: str
    tried_s: float


class Follower:
    """Asks the store what is live, and serves it once it has shown that it answers.

    A version is fetched and verified, loaded by a process of its own, loaded here, and asked its golden
    requests, which warms it up. Then it takes over: requests that have begun keep the version that they
    began with. The version before stays in memory, so that a rollback waits for nothing.
    """

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
        self._before: Predictor | None = None
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
        """Serve what is live, if it is another version and answers. Blocks as long as that takes."""
        try:
            production = self._store.production()
        except (StoreError, OSError) as error:
            if not self._is_lost:  # once, not every second
                logger.warning("%s: the store does not say what is live: %s", self._live.name, error)
            self._is_lost = True
            return
        self._is_lost = False
        if production is None or production.version == self._live.predictor.version:
            self.not_served = None
        elif self._is_due(production):
            self._take(production)

    def _is_due(self, production: Production) -> bool:
        failed = self.not_served
        if failed is None or (failed.version, failed.since) != (production.version, production.since):
            return True
        return self._clock() >= failed.tried_s + _TRY_AGAIN_S

    def _take(self, production: Production) -> None:
        old = self._live.predictor
        started = self._clock()
        try:
            new = self._loaded(production.version)
            _refuse_another_scenario(old, new)
        except Exception as error:  # noqa: BLE001 - whatever it is, the old version goes on
            self._keep(old, production, error)
            return
        self._before, self._live.predictor = old, new
        self.not_served = None
        took_s = self._clock() - started
        logger.info("%s: %s is served in place of %s, after %.1f s", self._live.name, new.version, old.version, took_s)

    def _loaded(self, version: str) -> Predictor:
        if self._before is not None and self._before.version == version:
            return self._before
        return self._load(self._store, version)

    def _keep(self, old: Predictor, production: Production, error: Exception) -> None:
        """Go on with the old version, and say so: at /readyz, in the log and, once, in the journal."""
        reason = error.what if isinstance(error, NoriaError) else str(error)
        logger.error(
            "%s: %s is live in the store, but %s goes on serving: %s",
            self._live.name,
            production.version,
            old.version,
            error,
        )
        is_new = self.not_served is None or self.not_served.version != production.version
        self.not_served = NotServed(production.version, reason, production.since, self._clock())
        if is_new:
            try:
                self._store.journal.record("not-served", production.version, reason=reason)
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


def _refuse_another_scenario(old: Predictor, new: Predictor) -> None:
    before, after = old.bundle.scenario.name, new.bundle.scenario.name
    if before != after:
        raise BundleError(
            f"it is a model of `{after}`, and clients ask one of `{before}`",
            where=str(new.bundle.artifact.path),
            expected=f"a model of `{before}`",
            next_step="give it a name of its own (`name` in params.yaml), and serve both",
        )
