"""A day on S3: objects arrive hour by hour, and every hour ends with the decision that it calls for."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pytest
import s3fs
import yaml
from workspaces import TINY, Row, change_params, good_rows, new_rows, noria

from benchmarks.services import prefect_server, s3
from noria.serving.store import store_of
from noria.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

OTHER = {"neg": "pos", "pos": "neg"}


class Day:
    """A workspace whose source and store are on S3, and what an hour brings."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self._environment = root, environment
        self._s3 = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        self._s3.mkdir("day")

    def arrive(self, name: str, rows: list[Row]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows([("text", "label"), *rows])
        self._s3.pipe_file(f"day/rows/{name}.csv", text.getvalue().encode())

    def remove(self, name: str) -> None:
        self._s3.rm_file(f"day/rows/{name}.csv")

    def do(self, command: str, *arguments: str) -> int:
        """The exit code of a command; what it said goes into the test's log."""
        done = noria(command, *arguments, cwd=self.root, **self._environment)
        print(done.stdout, done.stderr)  # noqa: T201 - shown when a later hour fails
        return done.returncode

    def update(self) -> tuple[str, int]:
        """What is decided, and the exit code."""
        code = self.do("update")
        values = json.loads((self.root / ".noria" / "decision" / "decision.json").read_text())
        return values["action"], code

    @property
    def live(self) -> str:
        return store_of(Workspace.at(self.root)).production().version

    @property
    def events(self) -> list[str]:
        """What became of versions, in order."""
        kinds = [event.kind for event in store_of(Workspace.at(self.root)).journal.events()]
        return [kind for kind in kinds if kind in ("promoted", "kept", "inconclusive")]

    @property
    def refused(self) -> list[str]:
        return [one["object"] for one in yaml.safe_load((self.root / "sources/intake/refused.yaml").read_text()) or ()]


@pytest.fixture
def day(tmp_path, monkeypatch):
    storage, environment = s3(tmp_path / "s3")
    server, api = prefect_server(tmp_path / "prefect")
    try:
        storage.start()
        server.start()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield Day(tmp_path / "ws", {**environment, "PREFECT_API_URL": api})
    finally:
        server.end()
        storage.end()


def noisy_rows(num_rows: int) -> list[Row]:
    """Texts like those that are known, of which every fourth has the wrong label."""
    draw = random.Random(5)
    return [(text, OTHER[label] if draw.random() < 0.25 else label) for text, label in good_rows(num_rows, seed=8)]


def test_every_hour_ends_with_the_decision_that_it_calls_for(day):
    day.arrive("00", good_rows(600))
    day.root.mkdir()
    assert day.do("init", str(day.root), "--source", "s3://day/rows/") == 0
    change_params(day.root, TINY)
    # a day is short: what a month of rows would be elsewhere
    update = {"triggers": {"new_rows": 300}, "stop": {"metric_drop": 0.4}}
    update |= {"max_latency_ratio": 100, "max_size_ratio": 100}  # on a busy machine chance says which form is fastest
    change_params(day.root, {"deploy": {"store": "s3://day/models"}, "update": update})
    assert day.do("run") == 0
    first = day.live

    assert day.update() == ("none", 0), "an empty hour"

    day.arrive("02", good_rows(120, seed=21))
    assert day.update() == ("none", 0), "a few more of the same"

    day.arrive("03", good_rows(60, seed=22))
    day.arrive("03-b", good_rows(60, seed=23))
    day.arrive("03-broken", [("!!", "pos"), ("??", "neg")] * 30)
    assert day.update() == ("none", 0), "one object of three is broken"
    assert day.refused == ["03-broken.csv"]

    day.arrive("04", [(text, OTHER[label]) for text, label in good_rows(250, seed=24)])
    assert day.update() == ("call", 15), "labels the wrong way round"
    assert day.live == first
    day.remove("04")
    assert day.update() == ("none", 0), "somebody took them away"

    day.arrive("06", new_rows(400))
    assert day.update() == ("retrain", 0), "the world moved on"
    second = day.live
    assert second != first

    assert day.update() == ("none", 0), "nothing since"

    day.arrive("08", noisy_rows(400))
    assert day.update() == ("retrain", 0), "as many rows, but they teach what is wrong"
    assert day.live == second

    assert day.update() == ("none", 0), "that was tried"
    assert day.refused == ["03-broken.csv"]
    assert day.events[:2] == ["promoted", "promoted"]
    assert day.events[2:] in (["kept"], ["inconclusive"])
    assert day.do("verify") == 0
