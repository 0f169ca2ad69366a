"""`noria plan`, `noria verify` and `noria status` on a workspace that has run."""

import json

import pytest

from workspaces import noria

pytestmark = pytest.mark.slow


@pytest.fixture
def edit(dirty):
    """Change a file of the workspace; it is put back afterwards."""
    before = {}

    def change(name, old, new):
        path = dirty / name
        before.setdefault(path, path.read_bytes())
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    yield change
    for path, content in before.items():
        path.write_bytes(content)


def plan(root):
    done = noria("plan", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    return {stage["name"]: stage for stage in json.loads(done.stdout)["stages"]}


def test_a_changed_learning_rate_runs_train_evaluate_and_optimize_and_says_old_and_new(dirty, edit):
    edit("params.yaml", "  lr: 0.0007\n", "  lr: 0.002\n  label_smoothing: 0.2\n")
    planned = plan(dirty)
    assert list(planned) == ["train", "evaluate", "optimize"]
    smoothing, rate = planned["train"]["reasons"]
    assert (rate["kind"], rate["what"], rate["old"], rate["new"]) == ("parameter", "train.lr", "0.0007", "0.002")
    assert (smoothing["what"], smoothing["old"]) == ("train.label_smoothing", "0.1 (default)")
    assert [reason["what"] for reason in planned["optimize"]["reasons"]] == ["train"]
    assert all(stage["expected_s"] > 0 for stage in planned.values())


def test_changed_data_names_the_source_and_everything_after_it(dirty, edit):
    edit("rows.csv", "text,label", "text,label\n又一条新的评论，质量很好值得推荐,pos")
    planned = plan(dirty)
    assert len(planned) == 10
    assert [(reason["kind"], reason["what"]) for reason in planned["ingest"]["reasons"]] == [("dependency", "rows.csv")]


def test_planning_runs_and_changes_nothing(dirty):
    lock = (dirty / "dvc.lock").read_bytes()
    assert plan(dirty) == {}
    assert (dirty / "dvc.lock").read_bytes() == lock


def test_verify_counts_what_is_whole_and_names_the_first_file_that_is_not(dirty):
    done = noria("verify", "--json", cwd=dirty)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verified"]["versions"] == 1
    report = next((dirty / "reports" / "evaluation").glob("*.csv"))
    whole, mode = report.read_bytes(), report.stat().st_mode
    report.unlink()  # a link into DVC's cache: written in place, it would change there too
    report.write_bytes(whole + b"x")
    try:
        done = noria("verify", cwd=dirty)
    finally:
        report.write_bytes(whole)
        report.chmod(mode)
    assert done.returncode == 7
    assert str(report) in done.stderr


def test_verify_finds_a_damaged_file_of_the_cache(dirty):
    damaged = next((dirty / ".dvc" / "cache" / "files" / "md5").glob("??/*.dir"))
    whole, mode = damaged.read_bytes(), damaged.stat().st_mode
    damaged.chmod(0o644)
    damaged.write_bytes(whole + b" ")
    try:
        done = noria("verify", cwd=dirty)
    finally:
        damaged.write_bytes(whole)
        damaged.chmod(mode)
    assert done.returncode == 7
    assert str(damaged) in done.stderr


def test_status_tells_stages_rows_and_the_champion(dirty):
    status = json.loads(noria("status", "--json", cwd=dirty).stdout)
    assert status["running"] is None
    assert {stage["stage"] for stage in status["stages"]} >= {"ingest", "train", "deploy", "update"}
    assert not any(stage["stale"] for stage in status["stages"])
    for ledger in status["ledger"].values():
        assert ledger["rows_in"] + ledger["added"] == ledger["rows_out"] + ledger["quarantined"]
    assert status["champion"]["age_s"] >= 0
    assert status["champion"]["metrics"]
