"""Whatever is killed, runs end by themselves, and a better model is promoted once. `benchmarks/chaos.py` kills more."""

from __future__ import annotations

import subprocess

import pytest
from workspaces import good_rows, make_workspace, noria, noria_command

from benchmarks.chaos import ENDS_S, chaos, promotions, running, tune, unfinished, wait
from benchmarks.services import quiet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS, SEED, RUN_S = 3, 3, 90.0  # the flow, the worker, the server


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """PostgreSQL, S3, a Prefect server, a worker and a watch, and a workspace for them."""
    directory = tmp_path_factory.mktemp("chaos")
    root = make_workspace(directory / "ws", good_rows(300))
    tune(root)
    with running(directory, root) as found:
        yield found


def test_flows_at_once_take_turns_and_promote_once(stack):
    root = stack.workspace.root
    asked = [stack.begin(), stack.begin()]
    with subprocess.Popen(noria_command("run"), cwd=root, env=quiet(PREFECT_API_URL=stack.api)) as third:
        assert [wait(stack, run)[0] for run in asked] == ["COMPLETED", "COMPLETED"]
        assert third.wait(300) == 0
    assert promotions(root) == 1


def test_after_kills_at_random_moments_nothing_is_left_to_repair(stack):
    for killed in chaos(stack, kills=KILLS, seed=SEED, run_s=RUN_S):
        assert killed.states[-1] == "COMPLETED", killed
        assert killed.promotions == 1, killed
        assert killed.marked_s < ENDS_S, killed
    assert unfinished(stack) == 0
    assert noria("verify", cwd=stack.workspace.root).returncode == 0
