"""The command line around a workspace: init, doctor, and what stops a run before it starts."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from workspaces import good_rows, make_workspace, noria

from noria.errors import ConfigError, DiskFull, SourceError
from noria.preflight import check_ready
from noria.workspace import Workspace

HEAVY = ("torch", "prefect", "dvc", "great_expectations", "onnxruntime", "pyarrow", "pydantic", "numpy")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("cli") / "shop-reviews", good_rows(20))


def test_help_imports_nothing_heavy():
    code = (
        "import contextlib, sys, noria.cli\n"
        "with contextlib.suppress(SystemExit): noria.cli.main(['--help'])\n"
        f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quarantine" in done.stdout


def test_init_makes_a_workspace_and_adds_nothing_the_second_time(made):
    config = Workspace.at(made).config
    assert (config.name, config.source.path, config.source.label_from) == ("shop-reviews", "rows.csv", "column")
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    done = noria("init", str(made), cwd=made)
    assert "complete already" in done.stdout
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_init_adds_only_what_is_missing_and_brings_sample_data(tmp_path):
    done = noria("init", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sample = tmp_path / "sources" / "reviews" / "pos.txt"
    assert sample.stat().st_size > 1_000_000
    params = (tmp_path / "params.yaml").read_bytes()
    (tmp_path / "dvc.yaml").unlink()
    assert "wrote dvc.yaml" in noria("init", ".", cwd=tmp_path).stdout
    assert (tmp_path / "params.yaml").read_bytes() == params


def test_init_refuses_to_turn_a_workspace_into_another_scenario(made):
    done = noria("init", str(made), "--scenario", "translation", cwd=made)
    assert done.returncode == ConfigError.exit_code
    assert "text-classification" in done.stderr


def test_init_leaves_what_else_lies_in_the_directory_out_of_the_first_commit(made):
    tracked = subprocess.run(["git", "ls-files"], cwd=made, capture_output=True, text=True, check=True).stdout
    assert "params.yaml" in tracked and ".dvc/config" in tracked
    assert "rows.csv" not in tracked


@pytest.mark.parametrize(("ignored", "repository"), [("/demo/", "demo/ws"), ("/other/", ".")])
def test_init_makes_a_repository_where_the_one_around_it_would_keep_nothing(tmp_path, ignored, repository):
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text(f"{ignored}\n")
    (tmp_path / "rows.csv").write_text("text,label\n")
    done = noria("init", "demo/ws", "--source", "rows.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tracked = subprocess.run(
        ["git", "ls-files", "--full-name"], cwd=tmp_path / "demo" / "ws", capture_output=True, text=True, check=True
    )
    prefix = "" if repository == "demo/ws" else "demo/ws/"
    assert {f"{prefix}params.yaml", f"{prefix}.dvc/config"} <= set(tracked.stdout.splitlines())
    assert (tmp_path / repository / ".git").is_dir()


@pytest.mark.parametrize("name", ["2024", "no", "my: data #1"])
def test_init_quotes_names_that_yaml_would_take_for_something_else(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.csv").write_text("text,label\n")
    done = noria("init", name, "--source", f"{name}/{name}.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = Workspace.at(tmp_path / name).config
    assert config.source.path == f"{name}.csv"
    assert config.name == {"my: data #1": "my-data-1"}.get(name, name)


@pytest.mark.parametrize(
    ("files", "label_from"),
    [(["a.csv", "b.csv"], "column"), (["neg.txt", "pos.txt"], "file"), (["neg/1.txt", "pos/1.txt"], "directory")],
)
def test_init_looks_into_a_directory_for_where_the_label_is(tmp_path, files, label_from):
    for file in files:
        (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / file).write_text("text,label\n")
    assert noria("init", "ws", "--source", "data", cwd=tmp_path).returncode == 0
    assert Workspace.at(tmp_path / "ws").config.source.label_from == label_from


def test_init_refuses_a_missing_source_and_another_source(made, tmp_path):
    done = noria("init", "ws", "--source", "rows.cvs", cwd=made)
    assert done.returncode == SourceError.exit_code
    assert "did you mean" in done.stderr and "rows.csv" in done.stderr
    (tmp_path / "other.csv").write_text("text,label\n")
    done = noria("init", str(made), "--source", str(tmp_path / "other.csv"), cwd=made)
    assert done.returncode == ConfigError.exit_code
    assert "another source" in done.stderr


def test_sections_that_dvc_needs_to_see_are_named_and_added(made, tmp_path):
    shutil.copytree(made, tmp_path / "ws")
    params = tmp_path / "ws" / "params.yaml"
    params.write_text("name: x\nscenario: text-classification\nsource: {path: rows.csv}")
    done = noria("plan", cwd=tmp_path / "ws")
    assert done.returncode == ConfigError.exit_code
    assert "seed, preprocess" in done.stderr and "noria init" in done.stderr
    assert noria("init", ".", cwd=tmp_path / "ws").returncode == 0
    done = noria("plan", cwd=tmp_path / "ws")
    assert done.returncode == 0, done.stderr


def test_a_plan_names_stages_alike_wherever_it_is_asked_for_and_leaves_tracked_data_out(made, tmp_path):
    from dvc.repo import Repo

    shutil.copytree(made, tmp_path / "ws")
    (tmp_path / "ws" / "notes.txt").write_text("x")
    with Repo(str(tmp_path / "ws")) as repo:
        repo.add(str(tmp_path / "ws" / "notes.txt"))
    done = noria("plan", "--json", "-C", "ws", cwd=tmp_path)
    assert [stage["name"] for stage in json.loads(done.stdout)["stages"]][:3] == ["ingest", "preprocess", "check"]
    assert "notes" not in done.stdout


@pytest.mark.parametrize("command", ["plan", "status"])
def test_what_only_looks_refuses_a_broken_workspace_in_one_message(made, tmp_path, command):
    done = noria(command, cwd=tmp_path)
    assert done.returncode == ConfigError.exit_code
    assert "there is no params.yaml" in done.stderr and "Traceback" not in done.stderr
    shutil.copytree(made, tmp_path / "ws")
    for name, old, new, says in (
        ("params.yaml", "  lr: ", "  learning_rte: ", "train.learning_rte"),
        ("dvc.yaml", "cmd: ", "command: ", "DVC can't read the stages"),
    ):
        whole = (made / name).read_text()
        (tmp_path / "ws" / name).write_text(whole.replace(old, new))
        done = noria(command, cwd=tmp_path / "ws")
        assert done.returncode == ConfigError.exit_code
        assert says in done.stderr and "Traceback" not in done.stderr
        (tmp_path / "ws" / name).write_text(whole)


def test_a_reader_that_stops_early_is_no_error(made):
    command = [sys.executable, "-m", "noria.cli", "plan"]
    with subprocess.Popen(command, cwd=made, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_doctor_says_when_there_is_no_directory(tmp_path):
    done = noria("doctor", "-C", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "is no directory" in done.stdout and "Traceback" not in done.stderr


def test_an_empty_answer_of_the_quarantine_says_what_was_asked(made):
    assert "the quarantine is empty" in noria("quarantine", "list", cwd=made).stdout
    assert "no such row" in noria("quarantine", "list", "--rule", "empty", cwd=made).stdout
    assert "no number of rows" in noria("quarantine", "list", "--limit", "-1", cwd=made).stderr


def test_doctor_finds_a_good_workspace_good(made):
    done = noria("doctor", "--json", cwd=made)
    assert {finding["what"]: finding["ok"] for finding in json.loads(done.stdout)}["params.yaml"] is True


def test_a_misspelt_key_stops_the_run_before_it_starts(made, tmp_path):
    shutil.copytree(made, tmp_path / "ws")
    params = tmp_path / "ws" / "params.yaml"
    params.write_text(params.read_text().replace("  lr: ", "  learning_rte: "))
    done = noria("run", cwd=tmp_path / "ws")
    assert done.returncode == ConfigError.exit_code
    assert "train.learning_rte" in done.stderr and "params.yaml:" in done.stderr
    assert not (tmp_path / "ws" / ".noria" / "history.jsonl").exists()


def test_a_server_that_does_not_answer_stops_the_run_before_it_starts(made):
    done = noria("run", cwd=made, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == ConfigError.exit_code
    assert "PREFECT_API_URL=http://127.0.0.1:9/api" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_source_stops_the_run_before_it_starts(made, tmp_path):
    shutil.copytree(made, tmp_path / "ws")
    (tmp_path / "ws" / "rows.csv").unlink()
    with pytest.raises(SourceError, match=r"rows\.csv"):
        check_ready(Workspace.at(tmp_path / "ws"))


@pytest.mark.parametrize("name", ["a.csv", ".git/a"])
def test_a_link_to_nothing_is_named_before_dvc_stumbles_over_it(made, tmp_path, name):
    shutil.copytree(made, tmp_path / "ws", symlinks=True)
    source = tmp_path / "ws" / "source"
    (source / name).parent.mkdir(parents=True)
    (tmp_path / "ws" / "rows.csv").rename(source / "rows.csv")
    (source / name).symlink_to("nothing")
    params = tmp_path / "ws" / "params.yaml"
    params.write_text(params.read_text().replace("rows.csv", "source"))
    with pytest.raises(SourceError, match="leads nowhere"):
        check_ready(Workspace.at(tmp_path / "ws"))
    (source / name).unlink()
    check_ready(Workspace.at(tmp_path / "ws"))


def test_a_full_disk_stops_the_run_before_it_starts(made, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**12, 10**12, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match="500 MB and 1 MB are free"):
        check_ready(Workspace.at(made))


def test_a_run_elsewhere_says_what_a_workspace_is(tmp_path):
    done = noria("run", cwd=tmp_path)
    assert done.returncode == ConfigError.exit_code
    assert "noria init" in done.stderr
