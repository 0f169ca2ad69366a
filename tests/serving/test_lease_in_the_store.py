"""The lease of a model: one holder of all machines, handed on when it is given back, or has not been confirmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from s3_server import s3_server

from noria.errors import StoreError, WorkspaceBusy
from noria.lease import hold
from noria.lifeline import LIFELINE
from noria.serving import lease
from noria.serving.lease import Holder, Lease, Watched, take
from noria.serving.objects import LocalObjects
from noria.serving.s3 import S3Objects
from noria.workspace import Workspace

ONE, OTHER = (Holder(f"run {host}", host, 1, "/ws") for host in ("one", "other"))
PARAMS = "name: reviews\nscenario: text-classification\nsource: {path: rows.csv}\ndeploy: {store: ../store}\n"
HOLDER = """
import sys, time
from noria.lease import hold
from noria.workspace import Workspace
with hold(Workspace.at(sys.argv[1]), wait_s=0, run="theirs"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.slow)])
def objects(request, tmp_path, monkeypatch):
    if request.param == "directory":
        yield LocalObjects(tmp_path)
        return
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        found = S3Objects("models")
        found._s3.mkdir("models")
        yield found


@pytest.fixture
def quick(monkeypatch):
    """Beats of a tenth of a second, and an expiry of one."""
    for name, value in {"BEAT_S": 0.1, "EXPIRY_S": 1.0, "_POLL_S": 0.05}.items():
        monkeypatch.setattr(lease, name, value)


def taken(objects, holder, *, wait_s=0.0):
    return take(objects, "reviews", holder, wait_s=wait_s, is_gone=lambda other: False)


def kept(objects, holder, *, wait_s=0.0):
    """Taken, and confirmed from now on: (the lease, why it was lost)."""
    watched, mine, tag, _ = taken(objects, holder, wait_s=wait_s)
    why: list[str] = []
    return Lease(watched, mine, tag, lost=why.append), why


def workspace_at(root: Path) -> Workspace:
    root.mkdir()
    (root / "params.yaml").write_text(PARAMS)
    return Workspace.at(root)


def test_one_holds_it_and_the_next_gets_it_when_it_is_given_back(objects, quick):
    held, why = kept(objects, ONE)
    with pytest.raises(TimeoutError, match="process 1 on one"):
        taken(objects, OTHER, wait_s=2.0)  # longer than the expiry: it is confirmed meanwhile
    held.release()
    assert taken(objects, OTHER)[3] is None
    assert why == []


def test_who_does_not_confirm_it_loses_it_and_finds_out(objects, quick):
    watched, mine, tag, _ = taken(objects, ONE)  # and dies: no thread confirms it
    begun = time.monotonic()
    before = taken(objects, OTHER, wait_s=20)[3]
    assert before is not None and before.run == ONE.run
    assert time.monotonic() - begun > 1.0
    why: list[str] = []
    late = Lease(watched, mine, tag, lost=why.append)  # it was only asleep
    late._thread.join(10)
    assert why == ["another run has taken it over"]
    late.release()
    assert Watched(objects, "reviews").look()[0].run == OTHER.run


class Silent(LocalObjects):
    """A store that keeps whoever asks waiting, and does not answer."""

    is_silent = False

    def swap(self, key, data, tag):
        if self.is_silent:
            time.sleep(3)
            raise StoreError("no answer")
        return super().swap(key, data, tag)


def test_a_store_that_does_not_answer_for_long_costs_the_lease_before_another_may_take_it(tmp_path, quick):
    objects = Silent(tmp_path)
    held, why = kept(objects, ONE)
    time.sleep(0.5)
    objects.is_silent, begun = True, time.monotonic()
    while not why and time.monotonic() - begun < 5:
        time.sleep(0.02)
    assert time.monotonic() - begun < 1.0  # the expiry, that of who waits
    assert why == ["the store has not answered for 0.9 s"]
    held.release()
    assert len(why) == 1


def test_a_clock_that_is_a_year_off_changes_nothing(objects, quick):
    watched, mine, tag, _ = taken(objects, ONE)
    year = replace(mine, since="2025-11-27T00:00:00+00:00", beat="2025-11-27T00:00:00+00:00")
    tag = watched.write(year, watched.look()[1])
    held = Lease(watched, year, tag, lost=lambda why: None)
    with pytest.raises(TimeoutError):
        taken(objects, OTHER, wait_s=2.0)
    held.release()


def test_a_confirmation_that_won_and_was_told_to_have_failed_is_still_ours(objects, quick):
    watched, mine, tag, _ = taken(objects, ONE)
    assert watched.write(replace(mine, beat="later"), watched.look()[1]) is not None
    why: list[str] = []
    held = Lease(watched, mine, tag, lost=why.append)  # with the tag from before
    time.sleep(1)
    held.release()
    assert why == []
    assert Watched(objects, "reviews").look()[0] is None


def test_of_eight_that_race_one_gets_it(objects, quick):
    from concurrent.futures import ThreadPoolExecutor

    def attempt(number):
        try:
            return taken(objects, replace(ONE, host=f"host{number}"))[1].host
        except TimeoutError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [host for host in pool.map(attempt, range(8)) if host]
    assert won == [Watched(objects, "reviews").look()[0].host]


def test_two_workspaces_with_one_model_exclude_each_other(tmp_path):
    one, other = workspace_at(tmp_path / "one"), workspace_at(tmp_path / "other")
    with hold(one, wait_s=0, run="ours"):
        state = json.loads((tmp_path / "store" / "reviews" / "lease.json").read_text())
        assert (state["run"], state["workspace"], state["pid"]) == ("ours", str(one.root), os.getpid())
        with pytest.raises(WorkspaceBusy, match=f"in {one.root}"), hold(other, wait_s=0.2):
            pass
    with hold(other, wait_s=0) as before:
        assert before is None


def test_of_a_run_that_was_killed_here_nobody_waits_for_the_lease(tmp_path):
    workspace = workspace_at(tmp_path / "ws")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(workspace.root)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        other.kill()
    begun = time.monotonic()
    with hold(workspace, wait_s=20) as before:
        assert before is not None and before.run == "theirs"
    assert time.monotonic() - begun < 10


def test_a_run_that_lost_its_lease_can_start_no_stage_and_says_so(tmp_path, quick):
    workspace = workspace_at(tmp_path / "ws")
    with pytest.raises(WorkspaceBusy, match="lost its lease: another run"), hold(workspace, wait_s=0):
        fifo = Path(os.environ[LIFELINE])
        assert fifo.exists()
        watched = Watched(LocalObjects(tmp_path / "store"), "reviews")
        while watched.write(OTHER, watched.look()[1]) is None:  # as if it had expired
            pass
        until = time.monotonic() + 10
        while fifo.exists() and time.monotonic() < until:
            time.sleep(0.05)
        raise RuntimeError("what a stage that was ended comes to")
    assert not fifo.exists()
