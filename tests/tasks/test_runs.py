"""What is remembered of runs, and what is told of one that was killed."""

import subprocess
import sys
from contextlib import chdir

import pytest
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from noria.lease import hold
from noria.workspace import Workspace
from tasks.record import recorded, waiting
from tasks.runs import Run, alive, read_runs, remember_run

RUN = """
import sys, time
from noria.workspace import Workspace
from tasks.runs import alive
with alive(Workspace.at(sys.argv[1]), "a"):
    print("at it", flush=True)
    time.sleep(600)
"""
FIRST = Run("a", "pipeline", "2026-11-27T03:00:00+00:00")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    (tmp_path / "params.yaml").write_text("{name: reviews, scenario: text-classification, source: {path: x}}")
    (tmp_path / ".noria").mkdir()
    return Workspace.at(tmp_path)


def states(workspace) -> list[str]:
    return [run.state for run in read_runs(workspace)]


def test_a_run_that_has_not_ended_is_at_work_while_its_process_lives_and_else_was_killed(workspace):
    remember_run(workspace, FIRST)
    remember_run(workspace, Run("b", "pipeline", FIRST.started, error="\udcff"))
    assert states(workspace) == ["crashed", "crashed"]
    with alive(workspace, "b"):
        for _ in range(2):
            with hold(workspace, wait_s=0):
                assert states(workspace) == ["crashed", "running"]
            assert states(workspace) == ["crashed", "running"]  # between two turns of the workspace
        remember_run(workspace, Run("b", "pipeline", FIRST.started, state="waiting"))
        with hold(workspace, wait_s=0), alive(workspace, "c"):  # another run, meanwhile
            remember_run(workspace, Run("c", "pipeline", FIRST.started))
            assert states(workspace) == ["crashed", "waiting", "running"]
    assert states(workspace) == ["crashed"] * 3


def test_a_run_whose_process_is_killed_has_crashed_at_once_and_leaves_nothing(workspace):
    remember_run(workspace, FIRST)
    process = subprocess.Popen([sys.executable, "-c", RUN, str(workspace.root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at it\n"
    assert states(workspace) == ["running"]
    process.kill()
    process.wait()
    assert states(workspace) == ["crashed"]
    with alive(workspace, "b"):
        assert [path.name for path in (workspace.scratch / "alive").iterdir()] == ["b"]


def test_a_line_that_was_cut_short_takes_no_other_away(workspace):
    remember_run(workspace, Run("a", "pipeline", FIRST.started, state="completed", ended=FIRST.started))
    with (workspace.scratch / "runs.jsonl").open("a") as file:
        file.write('{"run": "b", "fl')
    assert states(workspace) == ["completed"]


@pytest.mark.slow
def test_a_flow_is_recorded_however_it_ends_and_leaves_its_page(workspace):
    @flow(name="trial")
    def trial(end: BaseException | None) -> None:
        with recorded(workspace):
            seen.append(states(workspace)[-1])
            with waiting(workspace):
                seen.append(states(workspace)[-1])
            if end is not None:
                raise end

    seen: list[str] = []
    with prefect_test_harness(), chdir(workspace.root):
        trial(None)
        with pytest.raises(ValueError, match="<b>no</b>"):
            trial(ValueError("<b>no</b>"))
    assert seen == ["running", "waiting"] * 2
    assert states(workspace) == ["completed", "failed"]
    failed = read_runs(workspace)[-1]
    assert (failed.flow, failed.error) == ("trial", "<b>no</b>")
    page = (workspace.run_reports / "index.html").read_text()
    assert "&lt;b&gt;no&lt;/b&gt;" in page and failed.run in page
