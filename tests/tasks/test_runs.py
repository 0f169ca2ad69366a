"""What is remembered of runs, and what is told of one that was killed."""

from contextlib import chdir

import pytest
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from noria.lease import hold
from noria.workspace import Workspace
from tasks.record import recorded, waiting
from tasks.runs import Run, read_runs, remember_run

FIRST = Run("a", "pipeline", "2026-11-27T03:00:00+00:00")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    (tmp_path / "params.yaml").write_text("{name: reviews, scenario: text-classification, source: {path: x}}")
    (tmp_path / ".noria").mkdir()
    return Workspace.at(tmp_path)


def states(workspace) -> list[str]:
    return [run.state for run in read_runs(workspace)]


def test_a_run_that_has_not_ended_is_at_work_where_somebody_holds_the_workspace_and_else_was_killed(workspace):
    remember_run(workspace, FIRST)
    assert states(workspace) == ["crashed"]
    remember_run(workspace, Run("b", "pipeline", FIRST.started, error="\udcff"))
    with hold(workspace, wait_s=0):
        assert states(workspace) == ["crashed", "running"]
    remember_run(workspace, Run("b", "pipeline", FIRST.started, state="waiting"))
    assert states(workspace) == ["crashed", "waiting"]


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
    assert seen == ["crashed", "waiting"] * 2  # nobody held the workspace
    assert states(workspace) == ["completed", "failed"]
    failed = read_runs(workspace)[-1]
    assert (failed.flow, failed.error) == ("trial", "<b>no</b>")
    page = (workspace.run_reports / "index.html").read_text()
    assert "&lt;b&gt;no&lt;/b&gt;" in page and failed.run in page
