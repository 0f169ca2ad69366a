"""SIGTERM to a real training: it saves, exits with the code that is tried again, and goes on as if nothing had been."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import tiny
from training_fixtures import tiny_checkpoint, tiny_config, tiny_splits

from noria.artifacts import Artifact, read_artifact
from noria.config import Config
from noria.errors import Preempted
from noria.workspace import Workspace

pytestmark = pytest.mark.slow

ENDS_WITHIN_S = 30.0
"""From SIGTERM on; that is what a scheduler gives."""

Event = Mapping[str, object]


def started(command: list[str], events: Path, until: Callable[[Event], bool]) -> subprocess.Popen[bytes]:
    """A process that has just said what was waited for."""
    events.unlink(missing_ok=True)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        lines = events.read_bytes().split(b"\n")[:-1] if events.exists() else []
        if any(until(json.loads(line)) for line in lines):
            return process
        time.sleep(0.01)
    process.kill()
    raise AssertionError(process.communicate()[1].decode())


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code after SIGTERM, which comes soon."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=ENDS_WITHIN_S)
    finally:
        process.kill()
    return process.returncode


def in_phase(name: str) -> Callable[[Event], bool]:
    """Whether an event is a point of the phase's curve."""

    def told(event: Event) -> bool:
        values = event.get("values")
        return event["kind"] == "metric" and isinstance(values, dict) and f"{name}_loss" in values

    return told


def kind(name: str) -> Callable[[Event], bool]:
    return lambda event: event["kind"] == name


def long_config() -> Config:
    """Long enough to be told to end in the middle."""
    return tiny_config(epochs=30, pretrain={"epochs": 20, "batch_tokens": 256})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    root = tmp_path_factory.mktemp("whole")
    return tiny_checkpoint(root / "checkpoint", splits=tiny_splits(root / "splits"), config=long_config())


def test_a_worker_saves_and_goes_on_to_the_same_bytes(whole: Artifact, tmp_path: Path) -> None:
    tiny_splits(tmp_path / "splits")
    paths = {name: str(tmp_path / name) for name in ("splits", "output", "scratch", "events")}
    job = tmp_path / "job.json"
    job.write_text(json.dumps({**paths, "config": long_config().model_dump(mode="json")}))
    command = [sys.executable, "-m", "noria.training.worker", str(job)]
    for phase in ("pretrain", "train"):
        process = started(command, tmp_path / "events", in_phase(phase))
        assert ended(process) == Preempted.exit_code == 75
        last = json.loads((tmp_path / "events").read_bytes().splitlines()[-1])
        assert last["kind"] == "error" and last["exit_code"] == 75 and f"phase `{phase}`" in last["message"]
        assert not (tmp_path / "output").exists()
    subprocess.run(command, check=True, capture_output=True)
    found = read_artifact(tmp_path / "output")
    assert found.files["model.safetensors"] == whole.files["model.safetensors"]
    assert found.facts == whole.facts


def long_workspace(root: Path) -> Workspace:
    workspace = tiny.make_workspace(root)
    params = tiny.PARAMS.replace("epochs: 2,", "epochs: 20,").replace("{epochs: 1}", "{epochs: 10}")
    workspace.params.write_text(params, encoding="utf-8")
    return Workspace.at(root)


@pytest.fixture(scope="module")
def trained_whole(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny.train(long_workspace(tmp_path_factory.mktemp("stage") / "ws"))


def stage(workspace: Workspace) -> list[str]:
    return [sys.executable, "-m", "tasks.train", "-C", str(workspace.root)]


def test_a_stage_saves_and_goes_on_to_the_same_bytes(trained_whole: Artifact, tmp_path: Path) -> None:
    workspace = long_workspace(tmp_path / "ws")
    events = workspace.events("train")
    assert ended(started(stage(workspace), events, in_phase("train"))) == Preempted.exit_code
    assert "told to end" in events.read_text() and not workspace.checkpoint.exists()
    subprocess.run(stage(workspace), check=True, capture_output=True)
    found = read_artifact(workspace.checkpoint)
    assert found.files["model.safetensors"] == trained_whole.files["model.safetensors"]


@pytest.mark.parametrize("after_s", [0.0, 0.5, 1.5, 3.0])
def test_told_to_end_at_any_other_time_it_ends_soon_and_loses_nothing(
    after_s: float, trained_whole: Artifact, tmp_path: Path
) -> None:
    """While it imports, encodes the rows, fits the wide branch, probes or trains: whichever it comes upon."""
    workspace = long_workspace(tmp_path / "ws")
    process = started(stage(workspace), workspace.events("train"), kind("started"))
    time.sleep(after_s)
    assert ended(process) in (128 + signal.SIGTERM, Preempted.exit_code)
    assert not workspace.checkpoint.exists()
    subprocess.run(stage(workspace), check=True, capture_output=True)
    found = read_artifact(workspace.checkpoint)
    assert found.files["model.safetensors"] == trained_whole.files["model.safetensors"]
