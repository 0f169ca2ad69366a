"""A served model follows what its store says is live, and what is tried beside it: load, prove, swap.

What fails leaves the old version serving.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from noria.serving.following import Following, NotServed, refuse_another_scenario
from noria.serving.pointer import Canary, Production
from noria.serving.predictor import Predictor

logger = logging.getLogger(__name__)


class Follower(Following):
    """Asks the store what is live, and serves it once it has shown that it answers.

    A version is fetched and verified, loaded by a process of its own, loaded here, and asked its golden
    requests, which warms it up. Then it takes over: requests that have begun keep the version that they
    began with. The version before stays in memory, so that a rollback waits for nothing; and a canary is
    there already when it goes live.
    """

    _before: Predictor | None = None

    def _meet(self, production: Production | None) -> None:
        if production is None or production.version == self._live.predictor.version:
            self.not_served = None
        elif self._is_due(production):
            self._take(production)

    def _take(self, production: Production) -> None:
        old = self._live.predictor
        started = self._clock()
        try:
            new = self._loaded(production.version)
            refuse_another_scenario(old, new)
        except Exception as error:  # noqa: BLE001 - whatever it is, the old version goes on
            self._failed(production, error, wish="is live in the store")
            return
        self._before, self._live.predictor = old, new
        self.not_served = None
        took_s = self._clock() - started
        logger.info("%s: %s is served in place of %s, after %.1f s", self._live.name, new.version, old.version, took_s)

    def _loaded(self, version: str) -> Predictor:
        trial = self._live.lineup.trial
        for known in (trial.challenger.predictor if trial else None, self._before):
            if known is not None and known.version == version:
                return known
        return self._load(self._store, version)


class CanaryFollower(Following):
    """Asks the store what is to be tried beside the champion, and puts it there once it has shown that it answers.

    It is fetched, verified, proven and warmed up like a version that goes live, before it is given any
    request; one that fails leaves the champion alone. A thread of its own: while a canary is loaded, a
    rollback of the champion does not wait.
    """

    def _meet(self, production: Production | None) -> None:
        trial, champion = self._live.lineup.trial, self._live.predictor.version
        if production and trial and production.version == trial.challenger.version:
            return  # it goes live: who follows the champion takes it from here
        wanted = production.canary if production and production.version == champion else None
        if trial is not None and trial.canary != wanted:
            self._live.end_trial()
            logger.info("%s: %s is not tried any more", self._live.name, trial.challenger.version)
        if wanted is None:
            self.not_served = None
        elif (trial is None or trial.canary != wanted) and self._is_due(wanted):
            self._take(wanted, beside=champion)

    def _take(self, canary: Canary, *, beside: str) -> None:
        try:
            new = self._load(self._store, canary.version)
            refuse_another_scenario(self._live.predictor, new)
            said = self._store.production()  # it may have been withdrawn meanwhile
        except Exception as error:  # noqa: BLE001 - whatever it is, the champion goes on
            self._failed(canary, error, wish=f"is the {canary.mode} in the store")
            return
        self.not_served = None
        if said and said.canary == canary and self._live.try_out(canary, new, beside=beside):
            way = f"{canary.mode} on {canary.share:.1%} of the requests"
            logger.info("%s: %s is tried beside %s, as a %s", self._live.name, new.version, beside, way)


@dataclass(frozen=True)
class Followers:
    """Who follows one model's store."""

    champion: Follower
    canary: CanaryFollower

    def start(self, every_s: float, ended: threading.Event) -> None:
        """On threads that nobody waits for: a proof can take minutes."""
        for one in (self.champion, self.canary):
            threading.Thread(target=one.follow, args=(every_s, ended), daemon=True).start()

    def missed(self) -> dict[str, NotServed]:
        """What the store wants and could not be served: `not_served` as the live version, `canary_not_served`."""
        found = {"not_served": self.champion.not_served, "canary_not_served": self.canary.not_served}
        return {name: missed for name, missed in found.items() if missed is not None}
