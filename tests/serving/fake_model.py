"""A model that answers as a test wants it to, and a server around it in this process, on a free port."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import httpx
import numpy as np
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from noria.config import ServeConfig
from noria.scenarios import load_scenario
from noria.serving.app import create_app
from noria.serving.connection import uvicorn_config
from noria.serving.predictor import VERSION_FIELD, Encoded
from noria.serving.server import listen

EXAMPLE = {"text": "很好"}


class FakePredictor:
    """Labels a text by its own first letters; as many tokens as letters.

    With `answer`, it answers each row of any scenario with what that makes of it; `path` is of its bundle.
    `batches` has the texts that were computed together. A text with "fail" in it makes its batch fail; with
    `hold`, batches wait until it is set.
    """

    def __init__(self, version="v1", *, hold=None, seconds=0.0, scenario="text-classification", answer=None, path=None):
        self.version = version
        self.bundle = SimpleNamespace(
            scenario=load_scenario(scenario), encoder=None, artifact=SimpleNamespace(path=path or Path("nowhere"))
        )
        self._answer = answer or (lambda row: {"label": row["text"][:8], "scores": {row["text"][:8]: 1.0}})
        self.batches = []
        self._hold = hold
        self._seconds = seconds

    def encode(self, rows):
        return [Encoded(row, [{"ids": np.zeros(len(_text(row)))}], len(_text(row))) for row in rows]

    def beginnings(self, encoded):
        return []

    def answer_encoded(self, batch):
        texts = [_text(encoded.row) for encoded in batch]
        self.batches.append(texts)
        if self._hold is not None:
            assert self._hold.wait(timeout=20)
        time.sleep(self._seconds)
        if any("fail" in text for text in texts):
            raise RuntimeError("the graph failed")
        return [{**self._answer(encoded.row), VERSION_FIELD: self.version} for encoded in batch]


def _text(row):
    return str(row.get("text", "one"))


@dataclass(frozen=True)
class Running:
    """A server under way."""

    client: httpx.Client
    url: str
    app: object
    server: uvicorn.Server


@contextmanager
def serving(models, *, server_of=uvicorn.Server, followed=MappingProxyType({}), **settings):
    """The application behind uvicorn, until the end of the block; `settings` are those of `serve`."""
    config = ServeConfig(port=0, **{"workers": 1, "access_log": False, **settings})
    app = create_app(models, config=config, followed=followed)
    listener = listen(config)
    server = server_of(uvicorn_config(app, log_level="critical", grace_s=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    url = "http://{}:{}".format(*listener.getsockname()[:2])
    thread.start()
    try:
        with httpx.Client(base_url=url, timeout=20) as client:
            yield Running(client, url, app, server)
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


def until(is_so, *, timeout_s=10.0):
    """Wait for it."""
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.005)


def samples(running: SimpleNamespace) -> dict[tuple[str, ...], float]:
    """What /metrics says: by name and labels."""
    families = text_string_to_metric_families(running.client.get("/metrics").text)
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
