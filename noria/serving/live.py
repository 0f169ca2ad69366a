"""One model as it is served: what answers, who may come in, and what is done together.

A request is answered by one version as a whole. Those that are given to a canary come back to the champion when it
fails on them: the client gets an answer, and the tally an error.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar, cast

from starlette.requests import Request

from noria.config import ServeConfig
from noria.evaluation.inference import num_cores
from noria.scenarios.base import can_grow
from noria.serving.admission import Admission, Place
from noria.serving.batcher import Batcher, Size
from noria.serving.body import read_body, unless_gone
from noria.serving.lineup import Lineup, Serving, Trial, key_of
from noria.serving.metrics import Metrics
from noria.serving.pointer import Canary
from noria.serving.predictor import Encoded, Predictor
from noria.serving.reading import BYTES_AT_ONCE, Given, Read, Understood, Unread, understand
from noria.serving.refusal import ModelFailed, Refusal
from noria.serving.shadow import Shadows
from noria.serving.tally import Answer, Tally

logger = logging.getLogger(__name__)

_MOST_REMEMBERED = 10_000
_PATIENCE_S = 1.0  # whoever leaves before has a reason of their own


T = TypeVar("T")
G = TypeVar("G", bound=Given)


@dataclass(frozen=True)
class Asked(Generic[G]):
    """A body that was understood, and the answers to come, one a row, all of one version.

    Or, of an answer that grows, the beginnings to ask for.
    """

    given: G
    answers: Sequence[asyncio.Future[Answer]]
    predictor: Predictor
    place: Place
    beginnings: Sequence[Encoded] = ()


@dataclass(frozen=True)
class Answered(Generic[G]):
    """A body that was understood, with the answers."""

    given: G
    answers: Sequence[Answer]
    version: str


class Live:
    """What the server answers with. Replacing `lineup` is one assignment: a request keeps the one it began with."""

    def __init__(self, name: str, predictor: Predictor, *, config: ServeConfig, metrics: Metrics) -> None:
        self.name = name
        self.lineup = Lineup(Serving(predictor))
        self._changing = threading.Lock()
        self._answered_by: OrderedDict[str, Tally] = OrderedDict()
        workers = config.workers or max(1, num_cores() - 1)
        self.admission = Admission(
            max_wait_s=config.max_wait_ms / 1_000,
            max_requests=config.max_requests,
            max_body_bytes=config.max_body_bytes,
            max_client_share=config.max_client_share,
            num_at_once=2 * workers,  # one that is computed, and one that is read, for each
        )
        self._metrics = metrics
        self._max_body_bytes = config.max_body_bytes
        self.batcher: Batcher[Encoded, Answer] = Batcher(
            _answers,
            size_of=_size_of,
            workers=workers,
            batch_tokens=config.batch_tokens,
            max_delay_s=config.max_delay_ms / 1_000,
            too_late=self.admission.too_late,
            on_done=self._done,
        )
        self._reader: Batcher[Unread, Understood | Refusal] = Batcher(
            understand,
            size_of=lambda unread: unread.size,
            workers=workers,
            batch_tokens=BYTES_AT_ONCE,
            max_delay_s=0.0,
            too_late=self.admission.too_late,
        )
        self._shadows = Shadows(is_busy=lambda: not (self.batcher.is_idle and self._reader.is_idle))
        metrics.follow(self)

    @property
    def predictor(self) -> Predictor:
        """The champion; with another one, no canary is left, which was compared with this one."""
        return self.lineup.champion.predictor

    @predictor.setter
    def predictor(self, predictor: Predictor) -> None:
        with self._changing:
            self.lineup = Lineup(Serving(predictor))

    def try_out(self, canary: Canary, predictor: Predictor, *, beside: str) -> bool:
        """Put `predictor` beside the champion, unless that is not the version `beside` any more."""
        with self._changing:
            champion = Serving(self.predictor)
            if champion.version != beside:
                return False
            self.lineup = Lineup(champion, Trial(canary, champion, Serving(predictor)))
            return True

    def end_trial(self) -> None:
        """The champion alone answers."""
        with self._changing:
            self.lineup = Lineup(Serving(self.predictor))

    def judged(self, request_id: str, *, is_right: bool) -> None:
        """Somebody said so of an answer; it counts once, and if it was given here not long ago."""
        tally = self._answered_by.pop(request_id, None)
        if tally is not None and is_right:
            tally.right += 1
        elif tally is not None:
            tally.wrong += 1

    async def answer(self, request: Request, *, read: Read[G], only: Predictor | None = None) -> Answered[G]:
        """The body as `read` understands it, with the answer to each of its rows; see `ask`."""
        with ExitStack() as inside:
            asked = await self.ask(request, read=read, inside=inside, only=only)
            answers = asyncio.gather(*asked.answers)
            await unless_gone(request.receive, answers)
            found = outcome(answers, request_id=request.state.request_id)
            return Answered(asked.given, found, asked.predictor.version)

    async def ask(
        self,
        request: Request,
        *,
        read: Read[G],
        inside: ExitStack,
        only: Predictor | None = None,
        may_grow: bool = False,
    ) -> Asked[G]:
        """The same with answers to come, as long as `inside` is open; a lone one may be asked for its beginnings.

        With `only`, this version answers and is not counted: the client chose it. The body is understood and encoded
        on another thread: to look at an image or a recording can take seconds, and the event loop goes on accepting.
        """
        lineup, key = self.lineup, key_of(request)
        place = inside.enter_context(self.admission.enter(request.state.client))
        body = await read_body(request, place, max_bytes=self._max_body_bytes)
        unread = Unread(body, read, place.deadline_s, self.admission.too_late)
        if only is not None:
            return cast("Asked[G]", await self._begin(request, unread, place, Serving(only), inside))
        champion, canary, shadow = lineup.champion, lineup.canary(key), lineup.shadow(key)
        if may_grow and (grown := await self._grow(request, unread, place, champion.predictor)) is not None:
            return cast("Asked[G]", grown)
        if canary is not None:
            tried_s = time.monotonic()
            begin = partial(self._begin, request, unread, place, canary)
            if (tried := await self._try(request, begin, inside)) is not None:
                return cast("Asked[G]", tried)
            place.deadline_s += time.monotonic() - tried_s  # the client does not pay for it
            unread = replace(unread, deadline_s=place.deadline_s)
            champion = Serving(champion.predictor)  # uncounted: what comes here is no fair share of the requests
        asked = cast("Asked[G]", await self._begin(request, unread, place, champion, inside))
        if shadow is not None:
            request.state.afterwards = partial(self._shadows.follow, shadow, asked.given.rows, asked.answers)
        return asked

    async def _grow(self, request: Request, unread: Unread, place: Place, predictor: Predictor) -> Asked[Given] | None:
        """The beginnings of a lone answer that has any; by no canary, since what was sent can't be taken back."""
        if not can_grow(predictor.bundle.encoder):
            return None
        given, encoded = await self._understood(request, unread, place, Serving(predictor))
        beginnings = predictor.beginnings(encoded[0]) if len(encoded) == 1 else []
        if not beginnings:
            return None
        place.weigh(sum(one.num_tokens for one in beginnings))
        return Asked(given, (), predictor, place, beginnings)

    async def _try(
        self, request: Request, begin: Callable[[ExitStack], Awaitable[Asked[Given]]], inside: ExitStack
    ) -> Asked[Given] | None:
        """All answers of a canary, or None where it fails: so nothing of it was sent by then, not a line."""
        with ExitStack() as attempt:
            try:
                asked = await begin(attempt)
                answers = asyncio.gather(*asked.answers)
                await unless_gone(request.receive, answers)
                outcome(answers, request_id=request.state.request_id)
            except ModelFailed:
                logger.warning("request %s: the champion answers instead of the canary", request.state.request_id)
                return None
            inside.push(attempt.pop_all())
            return asked

    async def _begin(
        self, request: Request, unread: Unread, place: Place, serving: Serving, inside: ExitStack
    ) -> Asked[Given]:
        """Understood and encoded, with the answers of this version to come, which are counted."""
        started_s = time.monotonic()
        given, encoded = await self._understood(request, unread, place, serving)
        answers = self._asking(encoded, place, serving.predictor, inside)
        asyncio.gather(*answers, return_exceptions=True).add_done_callback(
            partial(self._count, serving.tally, request.state.request_id, started_s)
        )
        return Asked(given, answers, serving.predictor, place)

    async def _understood(self, request: Request, unread: Unread, place: Place, serving: Serving) -> Understood:
        client, predictor, deadline_s = place.client, serving.predictor, place.deadline_s
        with self._reader.asking([unread], client=client, predictor=predictor, deadline_s=deadline_s) as (reading,):
            await asyncio.wait([reading])
            try:
                understood = outcome(reading, request_id=request.state.request_id)
            except ModelFailed:
                serving.tally.errors += 1
                raise
        if isinstance(understood, Refusal):
            raise understood
        num_rows = len(understood[1])
        request.state.told = {"model": self.name, "version": predictor.version, "rows": num_rows}
        return understood

    def _asking(
        self, encoded: Sequence[Encoded], place: Place, predictor: Predictor, inside: ExitStack
    ) -> Sequence[asyncio.Future[Answer]]:
        place.weigh(sum(row.num_tokens for row in encoded))
        client, deadline_s = place.client, place.deadline_s
        asking = self.batcher.asking(encoded, client=client, predictor=predictor, deadline_s=deadline_s)
        return inside.enter_context(asking)

    def _count(
        self, tally: Tally, request_id: str, started_s: float, done: asyncio.Future[list[Answer | BaseException]]
    ) -> None:
        """A request is over; one that was refused, or that nobody waits for any more, counts if that took long.

        A version so slow that clients leave would have no slow answers otherwise.
        """
        if done.cancelled():
            return
        seconds = time.monotonic() - started_s
        answers = [one for one in done.result() if not isinstance(one, BaseException)]
        errors = [one for one in done.result() if isinstance(one, BaseException)]
        if not errors:
            tally.answered(answers, seconds=seconds)
            self._answered_by[request_id] = tally
            if len(self._answered_by) > _MOST_REMEMBERED:
                self._answered_by.popitem(last=False)
        elif any(not isinstance(error, Refusal | asyncio.CancelledError) for error in errors):
            tally.errors += 1
        elif seconds >= _PATIENCE_S:
            tally.answered((), seconds=seconds)

    def close(self) -> None:
        """Begin nothing more."""
        self._reader.close()
        self.batcher.close()
        self._shadows.close()

    def _done(self, batch: Sequence[Encoded]) -> None:
        num_tokens = sum(encoded.num_tokens for encoded in batch)
        self.admission.answered(num_tokens)
        self._metrics.computed(self.name, num_rows=len(batch), num_tokens=num_tokens)


def _answers(predictor: Predictor, batch: Sequence[Encoded]) -> Sequence[Answer]:
    return predictor.answer_encoded(batch)


def outcome(done: asyncio.Future[T], *, request_id: str) -> T:
    """What came of work that is done; an error of the model is for the log, and a refusal for the client."""
    error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, Refusal):
        raise error
    logger.error("request %s: the model failed", request_id, exc_info=error)
    raise ModelFailed from error


def _size_of(encoded: Encoded) -> Size:
    return Size(len(encoded.pieces), encoded.longest_tokens, is_alone=encoded.is_beginning)
