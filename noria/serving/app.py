"""The model server: FastAPI in front of one model or several.

`POST /predict` asks the first model in its scenario's own words, `/models/NAME/predict` any of them,
and `/v2` speaks the Open Inference Protocol. `GET /healthz` says that the process lives, `GET
/readyz` that it answers, `GET /metrics` what it did. Every answer of a model names its version, and
every refusal says what, where, what was expected, and what to do next. `GET /` is a page for people.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi_swagger import patch_fastapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from noria.config import ServeConfig
from noria.serving.about import about
from noria.serving.doorway import REQUEST_ID, Doorway
from noria.serving.feedback import Shelf, feedback
from noria.serving.follower import CanaryFollower, Follower, Followers
from noria.serving.following import load_proven
from noria.serving.guard import guard_of
from noria.serving.inference_protocol import inference_protocol
from noria.serving.live import Live
from noria.serving.metrics import CONTENT_TYPE, Metrics
from noria.serving.objects import open_objects
from noria.serving.observer import WRITE_EVERY_S, Observer
from noria.serving.page import page
from noria.serving.predict import add_predict
from noria.serving.predictor import VERSION_FIELD, Predictor
from noria.serving.refusal import ModelFailed, Refusal, refusal_response
from noria.serving.store import ModelStore

logger = logging.getLogger(__name__)

_LAST_WORDS_S = 5.0

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Draining:
    """Whether the server is about to stop."""

    def __init__(self, lives: Mapping[str, Live]) -> None:
        self._lives = lives
        self.is_draining = False

    def begin(self) -> None:
        """Say that it is not ready any more, and go on answering."""
        self.is_draining = True

    def refuse(self) -> None:
        """Take no new request; those inside are answered."""
        for live in self._lives.values():
            live.admission.is_stopping = True


def create_app(
    models: Mapping[str, Predictor],
    *,
    config: ServeConfig,
    followed: Mapping[str, ModelStore] = MappingProxyType({}),
    clients_key: bytes | None = None,
) -> FastAPI:
    """The application; `app.state.models` holds each model by name, and the first is also at /predict.

    A model whose store is among those `followed` is swapped when another version goes live there, and a canary is
    tried beside it. Feedback is kept with a pseudonym of its client, which without `clients_key` is another after the
    next start.

    Raises
    ------
    ConfigError
        When a token is asked for that is not there.
    """
    metrics = Metrics()
    lives = {name: Live(name, predictor, config=config, metrics=metrics) for name, predictor in models.items()}
    first = next(iter(lives.values()))
    load = partial(load_proven, threads=config.threads, device=config.device)
    followers = {
        name: Followers(Follower(lives[name], store, load=load), CanaryFollower(lives[name], store, load=load))
        for name, store in followed.items()
    }
    observers = {name: Observer(open_objects(store.url), store.name) for name, store in followed.items()}
    lifespan = _lifespan(lives, followers, observers, follow_s=config.follow_s)
    app = _documented(f"Noria: {', '.join(lives)}", lifespan=lifespan)
    draining = Draining(lives)
    app.state.models, app.state.draining = lives, draining
    paths = {"/predict": first, **{f"/models/{name}/predict": live for name, live in lives.items()}}
    app.add_middleware(
        Doorway,
        guard=guard_of(config, os.environ),
        admissions={path: live.admission for path, live in paths.items()},
        metrics=metrics,
        logs=config.access_log,
    )
    _refuse_in_json(app, lives, metrics)
    _add_health(app, lives, draining, followers)
    for path, live in paths.items():
        add_predict(app, path, live, max_rows=config.max_batch_rows)
    app.include_router(
        inference_protocol(lives, max_rows=config.max_batch_rows, is_ready=lambda: not draining.is_draining)
    )
    app.include_router(page())
    app.include_router(about(lives, config=config, stores=followed, followers=followers))
    shelves = {name: Shelf(open_objects(store.url), store.name) for name, store in followed.items()}
    key = clients_key or secrets.token_bytes(32)
    app.include_router(feedback(lives, shelves=shelves, config=config, metrics=metrics, clients_key=key))
    _add_metrics(app, metrics)
    return app


def _documented(title: str, *, lifespan: Lifespan) -> FastAPI:
    """An application with its documentation at /docs, of which nothing comes from the network."""
    app = FastAPI(
        title=title,
        version=version("noria"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    patch_fastapi(app, redirect_from_root_to_docs=False)
    return app


def _lifespan(
    lives: Mapping[str, Live], followers: Mapping[str, Followers], observers: Mapping[str, Observer], *, follow_s: float
) -> Lifespan:
    """Follows the stores while requests are answered, and tells them how canaries do."""

    def observe() -> None:
        for name, observer in observers.items():
            observer.write(lives[name].lineup)

    def go_on_observing(ended: threading.Event) -> None:
        while not ended.wait(WRITE_EVERY_S):
            observe()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ended = threading.Event()
        for following in followers.values():
            following.start(follow_s, ended)
        threading.Thread(target=go_on_observing, args=(ended,), daemon=True).start()
        yield
        ended.set()
        for live in lives.values():
            live.close()
        last = threading.Thread(target=observe, daemon=True)  # a store that hangs does not keep the server from ending
        last.start()
        await asyncio.to_thread(last.join, _LAST_WORDS_S)

    return lifespan


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Counts, for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def _add_health(
    app: FastAPI, lives: Mapping[str, Live], draining: Draining, followers: Mapping[str, Followers]
) -> None:
    first = next(iter(lives.values()))

    @app.get("/healthz")
    async def healthz() -> Mapping[str, str]:
        """The process lives."""
        return {"status": "alive", VERSION_FIELD: first.predictor.version}

    @app.get("/readyz", responses={503: {"description": "the server is stopping"}})
    async def readyz() -> JSONResponse:
        """Requests are answered; what is tried beside the models; what their stores want and could not be served."""
        status = "draining" if draining.is_draining else "ready"
        by_model: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for name, live in lives.items():
            if (trial := live.lineup.trial) is not None:
                by_model["tried"][name] = trial.challenger.version
        for name, of_model in followers.items():
            for what, missed in of_model.missed().items():  # why is for those who may look: /models/NAME/history
                by_model[what][name] = missed.version
        said = {"status": status, VERSION_FIELD: first.predictor.version, **by_model}
        return JSONResponse(said, status_code=503 if draining.is_draining else 200)


def _refuse_in_json(app: FastAPI, lives: Mapping[str, Live], metrics: Metrics) -> None:
    """Every refusal in the shape of its route, with the model's version."""

    def answer(request: Request, refusal: Refusal) -> JSONResponse:
        metrics.refused(refusal.reason)
        path = request.url.path
        asked = [live for name, live in lives.items() if path.startswith(f"/models/{name}/")]
        live = asked[0] if asked else next(iter(lives.values()))
        about = {VERSION_FIELD: live.predictor.version}
        return refusal_response(refusal, path=path, request_id=request.state.request_id, about=about)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> JSONResponse:
        return answer(request, refusal)

    @app.exception_handler(HTTPException)
    async def not_served(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {request.url.path[:200]}: {error.detail}"
        expected = "GET /, POST /predict, GET /healthz, GET /readyz, GET /metrics, GET /v2, GET /docs"
        return answer(request, Refusal(error.status_code, what, expected=expected))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        logger.error("request %s failed", request.state.request_id, exc_info=error)
        response = answer(request, ModelFailed())
        response.headers[REQUEST_ID] = request.state.request_id  # it is sent from outside of the doorway
        return response
