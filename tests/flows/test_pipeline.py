"""The flow and DVC: one pipeline, two runners."""

import json
import os
import re
import shutil
import sqlite3
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from listeners import posted, webhook
from workspaces import QUIET, good_rows, hopeless_rows, last_run, make_workspace, noria

from noria.workspace import Workspace
from tasks.runs import read_runs

pytestmark = pytest.mark.slow

FAIL_BRANCH = [
    *("ingest", "preprocess", "check", "clean", "recheck", "augment", "split"),
    *("train", "evaluate", "optimize", "deploy", "update"),
]
PASS_BRANCH = [stage for stage in FAIL_BRANCH if stage not in ("clean", "recheck")]
EFFECTS = ("deploy", "update")
EDGES = {
    ("input data", "preprocess"),
    ("preprocess", "quality check"),
    ("preprocess", "clean"),
    ("quality check", "clean"),
    ("clean", "quality check (again)"),
    ("quality check (again)", "augment"),
    ("augment", "split"),
    ("split", "train"),
    ("split", "evaluate"),
    ("train", "evaluate"),
    ("split", "optimize"),
    ("train", "optimize"),
    ("optimize", "deploy"),
    ("deploy", "update"),
    ("evaluate", "update"),
    ("update", "tell of the change"),
}


@pytest.fixture
def stage_environment(monkeypatch):
    """What `dvc repro` in an activated environment has."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def reproduced(root: Path) -> list[str]:
    """The stages that `dvc repro` runs."""
    from dvc.repo import Repo

    with chdir(root), Repo() as repo:
        return [stage.name for stage in repo.reproduce()]


def test_data_that_fails_is_cleaned_judged_again_and_trained_on(dirty):
    assert last_run(dirty) == [(stage, "ran") for stage in FAIL_BRANCH]


def test_the_run_graph_has_the_edges_of_the_flowchart(dirty):
    with sqlite3.connect(dirty / ".noria" / "prefect" / "prefect.db") as database:
        rows = database.execute("select id, name, task_inputs from task_run").fetchall()
    names = {task_id: name for task_id, name, _ in rows}
    given = {task_id: json.loads(inputs) for task_id, _, inputs in rows}
    edges = {
        (names[source["id"]], names[task_id])
        for task_id, inputs in given.items()
        for sources in inputs.values()
        for source in sources
        if "id" in source
    }
    assert edges == EDGES


def test_after_a_run_dvc_has_nothing_to_do(dirty, stage_environment):
    assert reproduced(dirty) == []


def test_a_second_run_does_nothing_again_but_looks_at_the_champion(dirty):
    done = noria("run", cwd=dirty)
    assert done.returncode == 0, done.stderr
    assert last_run(dirty) == [(stage, "ran" if stage in EFFECTS else "cached") for stage in FAIL_BRANCH]


def test_after_dvc_a_run_takes_every_result_from_the_cache_and_passing_data_is_not_cleaned(tmp_path, stage_environment):
    root = make_workspace(tmp_path / "clean", good_rows(300))
    assert reproduced(root) == [stage for stage in FAIL_BRANCH if stage not in EFFECTS]
    done = noria("run", cwd=root)
    assert done.returncode == 0, done.stderr
    assert last_run(root) == [(stage, "ran" if stage in EFFECTS else "cached") for stage in PASS_BRANCH]


def test_data_that_fails_twice_stops_the_run_and_dvc_and_says_why(tmp_path, stage_environment):
    from dvc.exceptions import ReproductionError

    root = make_workspace(tmp_path / "hopeless", hopeless_rows(150))
    with webhook() as hook:
        done = noria("run", cwd=root, NORIA_NOTIFY=f"json://127.0.0.1:{hook.port}")
    assert done.returncode == 5
    assert "smallest_class_share" in done.stderr
    (news,) = posted(hook)
    assert news["title"] == "[hopeless] pipeline: the gate refused the data"
    assert "smallest_class_share" in news["message"] and "noria quarantine list" in news["message"]
    (run,) = read_runs(Workspace.at(root))
    assert run.state == "failed"
    page = (root / "reports" / "run" / "index.html").read_text()
    assert '<pre class="error">' in page and "Quality check, again" in page and "Training" not in page
    assert last_run(root)[-1] == ("recheck", "ran")
    with pytest.raises(ReproductionError, match="augment"):
        reproduced(root)
    events = (root / ".noria" / "events" / "augment.jsonl").read_text()
    assert "smallest_class_share" in events
    assert not (root / "data" / "augmented").exists()


def test_a_failed_stage_gives_its_own_words_and_code(tmp_path):
    root = make_workspace(tmp_path / "columns", good_rows(120))
    (root / "rows.csv").write_text("review,stars\n很好,5\n")
    done = noria("run", cwd=root)
    assert done.returncode == 3
    assert "text" in done.stderr and "review" in done.stderr
    assert "Traceback" not in done.stderr
    assert last_run(root) == [("ingest", "failed")]


def test_a_promotion_is_told_and_the_run_is_linked_to_its_report(dirty, tmp_path):
    root = dirty.parent / "told"  # as far from the code as the first
    shutil.copytree(dirty, root, symlinks=True)
    shutil.rmtree(root / "store")
    try:
        with webhook() as hook:
            done = noria("run", cwd=root, NORIA_NOTIFY=f"json://127.0.0.1:{hook.port}")
        assert done.returncode == 0, done.stderr
        (news,) = posted(hook)
        assert re.fullmatch(r"\[dirty\] [0-9a-f]{12} goes live", news["title"])
        assert news["type"] == "success" and "it has learned" in news["message"] and str(root) in news["message"]
        with sqlite3.connect(root / ".noria" / "prefect" / "prefect.db") as database:
            query = "select data, flow_run_id from artifact where key = ? order by created desc"
            link, run = database.execute(query, ("report",)).fetchone()
            table, same = database.execute(query, ("run",)).fetchone()
        page = Path(json.loads(link).split("`")[1])  # no process shows reports over HTTP here
        assert page.parent == root / "reports" / "run" and page.exists()
        assert run == same and "| update | ran |" in json.loads(table)
    finally:
        shutil.rmtree(root)
