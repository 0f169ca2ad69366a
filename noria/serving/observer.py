"""Writes what a server observes of canaries into the store."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from noria.errors import StoreError
from noria.serving.lineup import Lineup, Trial
from noria.serving.objects import Objects
from noria.serving.observations import CHALLENGER, CHAMPION, folder_of

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 10.0


class Observer:
    """Writes what one server observes of one model, now and then and at its end."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name
        self._server = uuid.uuid4().hex
        self._trial: Trial | None = None
        self._written: Mapping[str, object] = {}
        self._writing = threading.Lock()

    def write(self, lineup: Lineup) -> None:
        """Write what is new of the trial, and what the one before did until it ended.

        A store that can't be written loses nothing: the counts go on, and are written the next time.
        """
        with self._writing:
            if self._trial is not None and self._trial is not lineup.trial:
                self._keep(self._trial)
            self._trial = lineup.trial
            if self._trial is not None:
                self._keep(self._trial)

    def _keep(self, trial: Trial) -> None:
        said = {
            "trial": trial.canary.trial,
            "mode": trial.canary.mode,
            "share": trial.canary.share,
            "versions": {CHAMPION: trial.champion.version, CHALLENGER: trial.challenger.version},
            CHAMPION: trial.champion.tally.values(),
            CHALLENGER: trial.challenger.tally.values(),
        }
        if said == self._written:
            return
        values = {"server": self._server, "time": datetime.now(UTC).isoformat(), **said}
        try:
            self._put(f"{folder_of(self._name, trial.canary)}/{self._server}.json", json.dumps(values).encode())
        except (StoreError, OSError) as error:
            logger.warning(
                "%s: the observations of %s were not written: %s", self._name, trial.challenger.version, error
            )
        else:
            self._written = said

    def _put(self, key: str, data: bytes) -> None:
        """Nobody else writes this object."""
        stored = self._objects.read(key)
        if stored is None:
            self._objects.create(key, data)
        else:
            self._objects.swap(key, data, stored.tag)
