"""One model as it is served: what answers, who may come in, and what is done together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from starlette.requests import Request

from noria.config import ServeConfig
from noria.evaluation.inference import num_cores
from noria.serving.admission import Admission, Place
from noria.serving.batcher import Batcher, Size
from noria.serving.body import read_body, unless_gone
from noria.serving.metrics import Metrics
from noria.serving.predictor import Encoded, Predictor
from noria.serving.reading import BYTES_AT_ONCE, Given, Read, Understood, Unread, understand
from noria.serving.refusal import Refusal, model_failed

logger = logging.getLogger(__name__)

Answer = Mapping[str, object]
T = TypeVar("T")
G = TypeVar("G", bound=Given)


@dataclass(frozen=True)
class Asked(Generic[G]):
    """A body that was understood, and the answers to come, one a row; or the beginnings to ask of a growing one."""

    given: G
    answers: Sequence[asyncio.Future[Answer]]
    place: Place
    beginnings: Sequence[Encoded] = ()


class Live:
    """What the server answers with. Replacing `predictor` is one assignment: a request keeps the one it began with."""

    def __init__(self, name: str, predictor: Predictor, *, config: ServeConfig, metrics: Metrics) -> None:
        self.name = name
        self.predictor = predictor
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
        metrics.follow(self)

    async def answer(self, request: Request, *, predictor: Predictor, read: Read[G]) -> tuple[G, list[Answer]]:
        """The body as `read` understands it, with the answer to each of its rows."""
        with ExitStack() as inside:
            asked = await self.ask(request, predictor=predictor, read=read, inside=inside)
            answers = asyncio.gather(*asked.answers)
            await unless_gone(request.receive, answers)
            return asked.given, outcome(answers, request_id=request.state.request_id)

    async def ask(
        self, request: Request, *, predictor: Predictor, read: Read[G], inside: ExitStack, may_grow: bool = False
    ) -> Asked[G]:
        """The same with answers to come, as long as `inside` is open; a lone one may be asked for its beginnings.

        The body is understood and encoded on another thread: to look at an image or a recording can
        take seconds, and the event loop goes on accepting.
        """
        place = inside.enter_context(self.admission.enter(request.state.client))
        body = await read_body(request, place, max_bytes=self._max_body_bytes)
        client, deadline_s = place.client, place.deadline_s
        unread = Unread(body, read, deadline_s, self.admission.too_late)
        with self._reader.asking([unread], client=client, predictor=predictor, deadline_s=deadline_s) as (reading,):
            await asyncio.wait([reading])
            understood = outcome(reading, request_id=request.state.request_id)
        if isinstance(understood, Refusal):
            raise understood
        given, encoded = understood
        request.state.told = {"model": self.name, "version": predictor.version, "rows": len(encoded)}
        beginnings = predictor.beginnings(encoded[0]) if may_grow and len(encoded) == 1 else []
        if beginnings:
            place.weigh(sum(one.num_tokens for one in beginnings))
            return Asked(cast("G", given), (), place, beginnings)
        place.weigh(sum(row.num_tokens for row in encoded))
        asking = self.batcher.asking(encoded, client=client, predictor=predictor, deadline_s=deadline_s)
        return Asked(cast("G", given), inside.enter_context(asking), place)

    def close(self) -> None:
        """Begin nothing more."""
        self._reader.close()
        self.batcher.close()

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
    raise model_failed() from error


def _size_of(encoded: Encoded) -> Size:
    return Size(len(encoded.pieces), encoded.longest_tokens, is_alone=encoded.is_beginning)
