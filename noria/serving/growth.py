"""An answer that is sent while it is made: piece by piece, then as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from noria.serving.admission import Place
from noria.serving.body import unless_gone
from noria.serving.lines import LINES, line_of
from noria.serving.live import Live, outcome
from noria.serving.predictor import IS_WHOLE, Encoded, Predictor
from noria.serving.refusal import CLIENT_LEFT, Refusal, error_fields
from noria.serving.tally import Answer

PIECE = "piece"


class Growth:
    """More of an answer each time, from its beginning on; others are computed in between."""

    def __init__(self, live: Live, predictor: Predictor, beginnings: Sequence[Encoded], place: Place) -> None:
        """Nothing is begun."""
        self._live = live
        self._predictor = predictor
        self._field = predictor.bundle.scenario.written
        self._left = list(beginnings)
        self._place = place
        self._said = ""
        self._answer: Answer = {}

    async def more(self, receive: Receive, *, request_id: str) -> str | None:
        """What the answer has more than before, or None when it is whole.

        Raises
        ------
        Refusal
            When the model failed, the wait was too long, or the client left, for whom nothing more is computed.
        """
        if not self._left:
            return None
        client, predictor, deadline_s = self._place.client, self._predictor, self._place.deadline_s
        batcher, part = self._live.batcher, self._left.pop(0)
        with batcher.asking([part], client=client, predictor=predictor, deadline_s=deadline_s) as (asked,):
            await unless_gone(receive, asked)
            found = outcome(asked, request_id=request_id)
        answer = {name: value for name, value in found.items() if name != IS_WHOLE}
        if found[IS_WHOLE]:
            self._left.clear()
        self._place.wait_on()
        self._answer, before = answer, self._said
        self._said = str(answer[self._field])
        assert self._said.startswith(before), "an answer that grows begins with what was said of it"
        return self._said[len(before) :]

    @property
    def answer(self) -> Answer:
        """All of it, so far."""
        return self._answer


class Pieces(Response):
    """`{"piece": …}` a line, as they come, and the whole answer in the last; or an error."""

    media_type = LINES

    def __init__(self, first: str, growth: Growth, inside: ExitStack) -> None:
        """`first` is there already: what is refused before it has a status of its own."""
        super().__init__()
        del self.headers["content-length"]  # known at the end only
        self._first = first
        self._growth = growth
        self._inside = inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def say(line: Mapping[str, object]) -> None:
            await send({"type": "http.response.body", "body": line_of(line), "more_body": True})

        request_id = scope["state"]["request_id"]
        with self._inside:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            piece: str | None = self._first
            try:
                while piece is not None:
                    if piece:  # a token may be a part of a character
                        await say({PIECE: piece})
                    piece = await self._growth.more(receive, request_id=request_id)
                await say(self._growth.answer)
            except Refusal as refusal:
                if refusal.status == CLIENT_LEFT:
                    return
                await say({"error": error_fields(refusal), "request_id": request_id})
        await send({"type": "http.response.body", "body": b""})
