"""Clients of a server that is to be changed under their hands."""

import threading
from collections import Counter

import httpx


class Clients:
    """They ask all the time, and keep what was not a whole answer of one version."""

    def __init__(self, url, *, body, num=4):
        self.wrong, self.versions = [], Counter()
        self._url, self._body, self._end = url, body, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(num)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._end.is_set():
                answer = client.post("/predict", json=self._body)
                said = answer.json()
                versions = {said.get("model_version"), *(one["model_version"] for one in said.get("outputs", []))}
                if answer.status_code != 200 or len(versions) != 1:
                    self.wrong.append((answer.status_code, said))
                self.versions.update(versions)
