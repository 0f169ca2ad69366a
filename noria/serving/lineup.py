"""Who answers: the champion, and beside it perhaps a challenger that is tried on a share of the requests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.requests import Request

from noria.serving.pointer import Canary, Mode
from noria.serving.predictor import Predictor
from noria.serving.tally import Tally

SESSION_ID = "X-Session-ID"
_MOST_CHARS = 200


@dataclass(frozen=True, eq=False)
class Serving:
    """A version that is served, and what it did here."""

    predictor: Predictor
    tally: Tally = field(default_factory=Tally)

    @property
    def version(self) -> str:
        return self.predictor.version


@dataclass(frozen=True, eq=False)
class Trial:
    """A challenger beside the champion that it is compared with, both counted from the same moment on."""

    canary: Canary
    champion: Serving
    challenger: Serving

    def takes(self, key: str) -> bool:
        """Whether it is given the requests of this key.

        Keys fall evenly in [0, 1), by a hash with the version: it is not always the same clients who try what is new.
        """
        digest = hashlib.blake2b(f"{self.canary.version}:{key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.canary.share * 2**64


@dataclass(frozen=True, eq=False)
class Lineup:
    """Who answers at one moment: a request looks once, so that it meets one champion and one challenger."""

    champion: Serving
    trial: Trial | None = None

    def canary(self, key: str) -> Serving | None:
        """Who answers the requests of this key instead of the champion, if anybody does."""
        return self._challenger(key, "canary")

    def shadow(self, key: str) -> Serving | None:
        """Who answers them too, unseen."""
        return self._challenger(key, "shadow")

    def roles(self) -> Iterator[tuple[str, Serving]]:
        """Everybody in it: the champion, and the canary or the shadow."""
        yield "champion", self.champion
        if self.trial is not None:
            yield self.trial.canary.mode, self.trial.challenger

    def _challenger(self, key: str, mode: Mode) -> Serving | None:
        trial = self.trial
        return trial.challenger if trial is not None and trial.canary.mode == mode and trial.takes(key) else None


def key_of(request: Request) -> str:
    """What the choice of a version depends on: the session that the client names, or else the request's id.

    Not on its address or token: behind a proxy all clients may have one of each, and one key is one version.
    """
    session = request.headers.get(SESSION_ID, "").strip()[:_MOST_CHARS]
    return f"session:{session}" if session else f"request:{request.state.request_id}"
