"""How a canary does beside its champion, server by server, kept in the store for those who judge it elsewhere.

<name>/observations/<trial>/<server>.json: one object per server, replaced as it counts on; counts alone, no payloads.
A server that starts again is another one, so that what it counted before it died is not lost.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from noria.errors import StoreError
from noria.serving.lineup import Lineup, Trial
from noria.serving.objects import Objects
from noria.serving.pointer import Canary
from noria.serving.tally import Tally

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 10.0
_CHAMPION, _CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Observed:
    """What both did, on all servers together, since the challenger stands beside the champion."""

    champion: Tally = field(default_factory=Tally)
    challenger: Tally = field(default_factory=Tally)
    num_servers: int = 0


def read_observations(objects: Objects, name: str, canary: Canary) -> Observed:
    """All that was written of this trial.

    Raises
    ------
    StoreError
        When an object can't be read.
    """
    observed, prefix = Observed(), f"{name}/observations/{canary.trial}"
    for server in objects.names(prefix):
        stored = objects.read(f"{prefix}/{server}")
        if stored is None or not server.endswith(".json"):  # a lock file, beside a local store's
            continue
        try:
            values = json.loads(stored.data)
            champion, challenger = Tally.of(values[_CHAMPION]), Tally.of(values[_CHALLENGER])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"the observations of a server can't be read: {error}",
                where=f"{prefix}/{server}",
                expected="the JSON that a server writes",
                next_step="move the object away: the others are counted without it",
            ) from error
        observed = Observed(observed.champion + champion, observed.challenger + challenger, observed.num_servers + 1)
    return observed


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
            "versions": {_CHAMPION: trial.champion.version, _CHALLENGER: trial.challenger.version},
            _CHAMPION: trial.champion.tally.values(),
            _CHALLENGER: trial.challenger.tally.values(),
        }
        if said == self._written:
            return
        values = {"server": self._server, "time": datetime.now(UTC).isoformat(), **said}
        try:
            self._put(
                f"{self._name}/observations/{trial.canary.trial}/{self._server}.json", json.dumps(values).encode()
            )
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
