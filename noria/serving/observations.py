"""How a canary does beside its champion, server by server, kept in the store for those who judge it elsewhere.

<name>/observations/<trial>/<server>.json: one object per server, replaced as it counts on; counts alone, no payloads.
A server that starts again is another one, so that what it counted before it died is not lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from noria.errors import StoreError
from noria.serving.objects import Objects
from noria.serving.pointer import Canary
from noria.serving.tally import Tally

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Observed:
    """What both did, on all servers together, since the challenger stands beside the champion."""

    champion: Tally = field(default_factory=Tally)
    challenger: Tally = field(default_factory=Tally)
    num_servers: int = 0


def folder_of(name: str, canary: Canary) -> str:
    """Where the servers write of this trial."""
    return f"{name}/observations/{canary.trial}"


def read_observations(objects: Objects, name: str, canary: Canary) -> Observed:
    """All that was written of this trial.

    Raises
    ------
    StoreError
        When an object can't be read.
    """
    observed, prefix = Observed(), folder_of(name, canary)
    for server in objects.names(prefix):
        if not server.endswith(".json"):  # a lock file, beside a local store's
            continue
        stored = objects.read(f"{prefix}/{server}")
        assert stored is not None, "observations are never removed"
        try:
            values = json.loads(stored.data)
            champion, challenger = Tally.of(values[CHAMPION]), Tally.of(values[CHALLENGER])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(
                f"the observations of a server can't be read: {error}",
                where=f"{prefix}/{server}",
                expected="the JSON that a server writes",
                next_step="move the object away: the others are counted without it",
            ) from error
        observed = Observed(observed.champion + champion, observed.challenger + challenger, observed.num_servers + 1)
    return observed
