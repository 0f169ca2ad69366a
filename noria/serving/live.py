"""One model as it is served: what answers, who may come in, and what is computed together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from starlette.requests import Request

from noria.config import ServeConfig
from noria.evaluation.inference import num_cores
from noria.scenarios.base import Row, Scenario
from noria.serving.admission import Admission
from noria.serving.batcher import Answer, Batcher
from noria.serving.body import read_body, unless_gone
from noria.serving.metrics import Metrics
from noria.serving.predictor import Encoded, Predictor


class Given(Protocol):
    """A body as its route understands it."""

    @property
    def rows(self) -> Sequence[Row]:
        """The validated requests in it."""
        ...


G = TypeVar("G", bound=Given)
Read = Callable[[bytes, Scenario], G]


@dataclass(frozen=True)
class Asked(Generic[G]):
    """A body that was understood, and the answers to come, one a row."""

    given: G
    answers: Sequence[asyncio.Future[Answer]]


class Live:
    """What the server answers with. Replacing `predictor` is one assignment: a request keeps the one it began with."""

    def __init__(self, name: str, predictor: Predictor, *, config: ServeConfig, metrics: Metrics) -> None:
        self.name = name
        self.predictor = predictor
        self.admission = Admission(
            max_wait_s=config.max_wait_ms / 1_000,
            max_requests=config.max_requests,
            max_body_bytes=config.max_body_bytes,
        )

        def done(num_rows: int, num_tokens: int) -> None:
            self.admission.answered(num_tokens)
            metrics.computed(name, num_rows=num_rows, num_tokens=num_tokens)

        workers = config.workers or num_cores()
        self.batcher = Batcher(
            workers=workers,
            batch_tokens=config.batch_tokens,
            max_delay_s=config.max_delay_ms / 1_000,
            too_late=self.admission.too_late,
            on_batch=done,
        )
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="noria-read")
        self._max_body_bytes = config.max_body_bytes
        metrics.follow(self)

    async def answer(self, request: Request, *, predictor: Predictor, read: Read[G]) -> tuple[G, list[Answer]]:
        """The body as `read` understands it, with the answer to each of its rows."""
        with ExitStack() as inside:
            asked = await self.ask(request, predictor=predictor, read=read, inside=inside)
            return asked.given, await unless_gone(request.receive, asyncio.gather(*asked.answers))

    async def ask(self, request: Request, *, predictor: Predictor, read: Read[G], inside: ExitStack) -> Asked[G]:
        """The same with answers to come, as long as `inside` is open.

        The body is understood and encoded on another thread: to look at an image or a recording can
        take seconds, and the event loop goes on accepting.
        """
        place = inside.enter_context(self.admission.enter())
        body = await read_body(request, place, max_bytes=self._max_body_bytes)

        def understand() -> tuple[G, list[Encoded]]:
            given = read(body, predictor.bundle.scenario)
            return given, predictor.encode(given.rows)

        given, encoded = await asyncio.get_running_loop().run_in_executor(self._readers, understand)
        place.weigh(sum(row.num_tokens for row in encoded))
        request.state.told = {"model": self.name, "version": predictor.version, "rows": len(encoded)}
        asking = self.batcher.asking(encoded, predictor=predictor, deadline_s=place.deadline_s)
        return Asked(given, inside.enter_context(asking))

    def close(self) -> None:
        """Compute nothing more."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self.batcher.close()
