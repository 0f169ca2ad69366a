import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from training_fixtures import SCENARIO, Listener, labels, some_tokens, tiny_checkpoint, tiny_config, tiny_splits

from noria.artifacts import Artifact
from noria.errors import Preempted, StageFailed, TrainingError
from noria.training.distributed import Ranks
from noria.training.launch import _command, _Heard, _route
from noria.training.train import train_model

HERE = Path(__file__).parent
ADAMW = {"optimizer": "adamw"}
LONG = {"optimizer": "adamw", "lr": 1e-3, "epochs": 60, "checkpoint_every_s": 1e-9, "pretrain": {"epochs": 2}}
"""Long enough to be interrupted, and saved at every point."""

Curve = list[tuple[int, dict[str, float]]]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_splits(tmp_path_factory.mktemp("ranks") / "splits")


@pytest.fixture(scope="module")
def long(splits: Artifact) -> tuple[Path, Curve]:
    """What the long training ends at, alone and uninterrupted."""
    return train(splits, splits.path.parent / "long", **LONG)


def train(splits: Artifact, directory: Path, **settings: object) -> tuple[Path, Curve]:
    told = Listener()
    train_model(
        splits,
        directory / "checkpoint",
        scenario=SCENARIO,
        config=tiny_config(**settings),
        scratch=directory / "scratch",
        on_metrics=told,
    )
    assert not (directory / "scratch").exists()
    return directory / "checkpoint", told.curve()


def distance(one: Path, other: Path) -> float:
    """Norm of the difference of two checkpoints' weights, relative to that of the first."""
    a, b = (load_file(path / "model.safetensors") for path in (one, other))
    assert a.keys() == b.keys()
    squares = [(float((a[name] - b[name]).square().sum()), float(a[name].square().sum())) for name in a]
    return math.sqrt(sum(difference for difference, _ in squares) / sum(size for _, size in squares))


def assert_same_curve(one: Curve, other: Curve) -> None:
    assert [step for step, _ in one] == [step for step, _ in other]
    for (_, these), (_, those) in zip(one, other, strict=True):
        for name, value in these.items():  # a norm after Muon's updates is as exact as bfloat16, see below
            assert those[name] == pytest.approx(value, rel=2e-3 if name == "grad_norm" else 1e-4, abs=1e-4)


class Running:
    """A training in a process of its own."""

    def __init__(self, splits: Artifact, directory: Path, settings: Mapping[str, object], *, prefix: tuple[str, ...]):
        self.directory = directory
        if not (directory / "splits").exists():
            shutil.copytree(splits.path, directory / "splits")
        self.output = (directory / "output.txt").open("ab")
        command = [*prefix, sys.executable, str(HERE / "train_tiny.py"), str(directory), json.dumps(settings)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if prefix:
            environment["GLOO_SOCKET_IFNAME"] = "noria"
        self.process = subprocess.Popen(command, stdout=self.output, stderr=self.output, env=environment)

    def points(self) -> int:
        """How many points of the learning curves the ranks that run now have told."""
        try:
            return (self.directory / "scratch" / "events.jsonl").read_text().count('"kind": "metric"')
        except FileNotFoundError:
            return 0

    def pids(self, module: str) -> list[int]:
        """Processes of this training that run a module."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode().split("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if module in words and str(self.directory / "scratch" / "job.json") in words:
                found.append(int(path.parent.name))
        return found

    def ranks(self) -> list[int]:
        return [pid for pid in self.pids("noria.training.worker") if pid not in self.pids("noria.training.agent")]

    def said(self) -> str:
        return (self.directory / "output.txt").read_text(errors="replace")


@contextmanager
def running(
    splits: Artifact, directory: Path, *, prefix: tuple[str, ...] = (), **settings: object
) -> Iterator[Running]:
    directory.mkdir(parents=True, exist_ok=True)
    started = Running(splits, directory, settings, prefix=prefix)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        started.output.close()
        until(lambda: not started.ranks())


def until(condition: Callable[[], bool], *, limit_s: float = 180.0) -> float:
    """Wait for it; the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < limit_s, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.parametrize(  # every two of the three together
    ("kind", "optimizer", "accumulate"),
    [
        *(("ddp", "adamw", 1), ("ddp", "adamw", 3), ("ddp", "muon", 2)),
        *(("fsdp2", "adamw", 2), ("fsdp2", "adamw", 3), ("fsdp2", "muon", 1)),
    ],
)
def test_two_ranks_end_where_one_does(
    kind: str, optimizer: str, accumulate: int, splits: Artifact, tmp_path: Path
) -> None:
    settings = {"optimizer": optimizer, "accumulate": accumulate}
    alone, curve = train(splits, tmp_path / "alone", **settings)
    together, same = train(splits, tmp_path / "together", **settings, distributed=kind, processes=2)
    # Muon orthogonalizes in bfloat16, where a last bit of the gradient can become one of the update
    assert distance(alone, together) < (1e-5 if optimizer == "adamw" else 1e-3)
    assert_same_curve(curve, same)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_a_rank_without_a_row_in_a_step_changes_nothing(kind: str, splits: Artifact, tmp_path: Path) -> None:
    settings = {**ADAMW, "batch_tokens": 24, "epochs": 0.3, "average": {"kind": "ema"}, "pretrain": {"epochs": 0}}
    alone, curve = train(splits, tmp_path / "alone", **settings)
    together, same = train(splits, tmp_path / "together", **settings, distributed=kind, processes=2)
    assert distance(alone, together) < 1e-5
    assert_same_curve(curve, same)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("ddp", "none"), ("fsdp2", "none"), ("none", "ddp"), ("none", "fsdp2")])
def test_told_to_end_and_started_again_on_another_number_of_ranks_it_ends_the_same(
    before: str, after: str, splits: Artifact, long: tuple[Path, Curve], tmp_path: Path
) -> None:
    with running(splits, tmp_path, **LONG, distributed=before, processes=2) as started:
        state = tmp_path / "scratch" / "state"
        until(lambda: (started.points() > 9) if before != "none" else state.exists() and len(list(state.iterdir())) > 1)
        time.sleep(0.2)
        started.process.send_signal(signal.SIGTERM)
        until(lambda: started.process.poll() is not None)  # torchrun kills the ranks 30 s after it was told
        assert started.process.returncode == Preempted.exit_code, started.said()
    assert not (tmp_path / "checkpoint").exists()
    (tmp_path / "splits").rename(tmp_path / "there")
    told = Listener()
    train_model(
        splits,
        tmp_path / "checkpoint",
        scenario=SCENARIO,
        config=tiny_config(**LONG, distributed=after, processes=2),
        scratch=tmp_path / "scratch",
        on_metrics=told,
    )
    assert distance(long[0], tmp_path / "checkpoint") < 1e-5
    assert_same_curve(long[1], told.curve())


@pytest.mark.slow
def test_a_killed_rank_is_started_again_with_the_others_and_goes_on(
    splits: Artifact, long: tuple[Path, Curve], tmp_path: Path
) -> None:
    with running(splits, tmp_path, **LONG, distributed="ddp", processes=2) as started:
        until(lambda: started.points() > 9)
        first = started.ranks()
        os.kill(first[-1], signal.SIGKILL)
        assert started.process.wait(180) == 0, started.said()
    assert "going on in" in started.said()
    assert distance(long[0], tmp_path / "checkpoint") < 1e-5
    assert_same_curve(long[1], [(step, values) for step, values in json.loads((tmp_path / "curve.json").read_text())])


@pytest.mark.slow
def test_ranks_that_die_again_and_again_are_given_up(splits: Artifact, tmp_path: Path) -> None:
    with running(splits, tmp_path, **LONG, distributed="ddp", processes=2, max_restarts=1) as started:
        for _ in range(2):
            until(lambda: len(started.ranks()) == 2 and started.points() > 0)
            doomed = started.ranks()
            os.kill(doomed[0], signal.SIGKILL)
            until(lambda gone=doomed: not set(gone) & set(started.ranks()))
        assert started.process.wait(120) == StageFailed.exit_code
    assert "more often than `train.max_restarts` (1)" in started.said()


@pytest.mark.slow
def test_an_error_comes_back_as_itself_and_is_not_tried_again(splits: Artifact, tmp_path: Path) -> None:
    settings = {"optimizer": "sgd", "lr": 1e30, "max_grad_norm": 1e30, "pretrain": {"epochs": 0}}
    config = tiny_config(**settings, distributed="ddp", processes=2)
    with pytest.raises(TrainingError, match="the loss became") as raised:
        tiny_checkpoint(tmp_path / "c", splits=splits, config=config)
    assert raised.value.exit_code == TrainingError.exit_code
    events = (tmp_path / "c-scratch" / "events.jsonl").read_text().splitlines()
    assert [event["restarts"] for event in map(json.loads, events) if event["kind"] == "started"] == [0]


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["the launcher", "torchrun"])
@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
def test_no_rank_outlives_what_started_it(killed: str, splits: Artifact, tmp_path: Path) -> None:
    with running(splits, tmp_path, **{**LONG, "epochs": 10_000}, distributed="ddp", processes=2) as started:
        until(lambda: started.points() > 3)
        ranks, agent = started.ranks(), started.pids("noria.training.agent")[0]
        os.kill(started.process.pid if killed == "the launcher" else agent, signal.SIGKILL)
        until(lambda: not started.ranks() and not started.pids("noria.training.agent"), limit_s=60)
        assert len(ranks) == 2
        if killed == "torchrun":
            assert started.process.wait(40) == StageFailed.exit_code


def two_hosts() -> str:
    """Why there can be no two hosts here, as network namespaces; an empty string where there can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and `ip`"
    name = f"noria-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return tried.stderr.strip()


def meeting() -> dict[str, object]:
    """Settings of the two hosts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"processes": 1, "nodes": 2, "rendezvous": f"10.99.0.1:{free.getsockname()[1]}"}


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: 10.99.0.1 and 10.99.0.2."""
    if reason := two_hosts():
        pytest.skip(f"no network namespaces here: {reason}")
    names = (f"noria-{os.getpid()}-1", f"noria-{os.getpid()}-2")
    commands = [f"netns add {name}" for name in names]
    commands += [f"link add noria netns {names[0]} type veth peer name noria netns {names[1]}"]
    for number, name in enumerate(names, 1):
        commands += [f"-n {name} addr add 10.99.0.{number}/24 dev noria"]
        commands += [f"-n {name} link set {link} up" for link in ("lo", "noria")]
    try:
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_hosts_without_a_common_disk_end_where_one_process_does(
    kind: str, hosts: tuple[str, str], splits: Artifact, tmp_path: Path
) -> None:
    alone, curve = train(splits, tmp_path / "alone", **ADAMW)
    settings = {**ADAMW, **meeting(), "distributed": kind}
    first, second = (("ip", "netns", "exec", name) for name in hosts)
    with (
        running(splits, tmp_path / "1", prefix=first, **settings) as one,
        running(splits, tmp_path / "2", prefix=second, **settings) as two,
    ):
        assert [one.process.wait(240), two.process.wait(60)] == [0, 0], one.said() + two.said()
    for directory in (tmp_path / "1", tmp_path / "2"):
        assert distance(alone, directory / "checkpoint") < 1e-5
        assert_same_curve(
            curve, [(step, values) for step, values in json.loads((directory / "curve.json").read_text())]
        )
    assert (tmp_path / "1/checkpoint/model.safetensors").read_bytes() == (
        tmp_path / "2/checkpoint/model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_one_of_two_hosts_told_to_end_ends_both(hosts: tuple[str, str], splits: Artifact, tmp_path: Path) -> None:
    settings = {**LONG, **meeting(), "epochs": 10_000, "distributed": "ddp"}
    first, second = (("ip", "netns", "exec", name) for name in hosts)
    with (
        running(splits, tmp_path / "1", prefix=first, **settings) as one,
        running(splits, tmp_path / "2", prefix=second, **settings) as two,
    ):
        until(lambda: one.points() > 3 and two.points() > 3)
        two.process.send_signal(signal.SIGTERM)
        assert [one.process.wait(90), two.process.wait(90)] == [Preempted.exit_code] * 2, one.said() + two.said()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank found."""
    directory = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [str(HERE / "two_ranks.py"), str(directory)]
    subprocess.run([*command, *script], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240)
    return [json.loads((directory / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_what_ranks_used_is_saved_together_and_taken_over_once(two_ranks: list[dict[str, Any]]) -> None:
    burnt_s = sum(rank["burnt_s"] for rank in two_ranks)
    for rank in two_ranks:
        assert burnt_s <= rank["saved_cpu_s"] < 1.5 * burnt_s
        assert rank["saved_cpu_s"] <= rank["resumed_cpu_s"] < 1.5 * burnt_s


@pytest.mark.slow
def test_fsdp2_shards_parameters_and_saves_them_whole(two_ranks: list[dict[str, Any]]) -> None:
    found = two_ranks
    assert all(0.45 < rank["share"] < 0.6 for rank in found)
    assert all(rank["sharded"] for rank in found)
    assert all(rank["whole"] and rank["restored"] and rank["skipped"] for rank in found)
    assert all(rank["goes_on"] for rank in found)  # training, on its own weights, behind a judge of averaged ones
    assert [rank["newest"] for rank in found] == ["second", "second"]
    assert [rank["raised"] for rank in found] == ["only the first knew"] * 2


def test_every_rank_has_as_many_parts_of_a_step() -> None:
    for num_ranks in range(1, 9):
        for accumulate in range(1, 9):
            parts = num_ranks // math.gcd(num_ranks, accumulate)
            assert accumulate * parts % num_ranks == 0
            assert parts == 1 or accumulate * (parts - 1) % num_ranks


def test_a_part_may_be_empty() -> None:
    objective = labels(some_tokens(3, longest=4), batch_tokens=4)
    parts = [objective.batch(0).part(number, of=3) for number in range(3)]
    assert sum(part.num_targets for part in parts) == objective.batch(0).num_targets
    assert 0 in [part.num_targets for part in parts]


def test_alone_nothing_is_communicated() -> None:
    alone = Ranks()
    value = torch.ones(())
    assert alone.sum(value) is value and alone.share("x") == "x" and alone.gather("x") == ["x"]
    assert alone.newest("x", age=lambda text: (len(text),)) == "x" and alone.leads and not alone.any(False)
    alone.raise_any(None)
    with pytest.raises(TrainingError):
        alone.raise_any(TrainingError("wrong"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distributed": "fsdp2", "lora": {"rank": 2}}, "set train.distributed: ddp"),
        ({"lora": {"rank": 2}}, "low-rank updates are of trained matrices"),
        ({"distributed": "ddp", "nodes": 2}, "a train.rendezvous HOST:PORT"),
        ({"nodes": 2, "rendezvous": "host:1"}, r"need train.distributed"),
    ],
)
def test_what_can_not_work_is_refused_in_the_configuration(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny_config(**settings)


def test_the_host_of_the_rendezvous_knows_that_it_is() -> None:
    assert _route("127.0.0.1") == ("127.0.0.1", "127.0.0.1")
    with pytest.raises(TrainingError, match="no way from here"):
        _route("no.such.host.invalid")  # RFC 6761


def test_several_nodes_meet_at_the_rendezvous() -> None:
    config = tiny_config(distributed="ddp", processes=3, nodes=2, rendezvous="127.0.0.1:29400")
    command = _command(Path("job.json"), config)
    assert {"--nnodes=2", "--nproc-per-node=3", "--rdzv-endpoint=127.0.0.1:29400"} <= set(command)
    assert any("is_host=True" in word for word in command) and "--standalone" not in command


def test_what_earlier_ranks_said_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    heard = _Heard(path)
    assert heard.news() == []
    path.write_text('{"kind": "started", "restarts": 0}\n{"kind": "metric", "step": 1}\n{"kind": "met')
    assert len(heard.news()) == 2 and heard.news() == []
    path.write_text('{"kind": "started", "restarts": 1}\n' + '{"kind": "metric", "step": 1}\n' * 9)
    assert len(heard.news()) == 10 and len(heard.events) == 10
    started = heard.last("started")
    assert started is not None and started["restarts"] == 1 and heard.last("error") is None
