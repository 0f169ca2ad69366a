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


def test_a_missing_source_stops_the_run_before_it_starts(made, tmp_path):
    shutil.copytree(made, tmp_path / "ws")
    (tmp_path / "ws" / "rows.csv").unlink()
    with pytest.raises(SourceError, match=r"rows\.csv"):
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
