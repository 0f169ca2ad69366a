"""DVC's own commands on a workspace that the flow has run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs
from s3_server import s3_server
from workspaces import environment, noria

pytestmark = pytest.mark.slow


@pytest.fixture
def root(dirty, tmp_path) -> Path:
    """A copy of a workspace that has been run, its results committed."""
    shutil.copytree(dirty, tmp_path / "ws", symlinks=True)
    git(tmp_path / "ws", "add", "--all")
    git(tmp_path / "ws", "commit", "--quiet", "--message", "Record a run")
    return tmp_path / "ws"


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments], cwd=root, check=True)


def dvc(root: Path, *arguments: str, **env: str) -> str:
    """Standard output of a DVC command, as in an activated environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env=environment(PATH=path, **env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_metrics_parameters_and_plots_are_shown(root):
    metrics = json.loads(dvc(root, "metrics", "show", "--json"))
    assert "accuracy" in json.dumps(metrics)
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("lr: 0.0007", "lr: 0.001"))
    changed = json.loads(dvc(root, "params", "diff", "--json"))
    assert changed["params.yaml"]["train.lr"] == {"old": 0.0007, "new": 0.001, "diff": pytest.approx(0.0003)}
    dvc(root, "plots", "show", "--out", "shown")
    assert "train_loss" in (root / "shown" / "index.html").read_text()


def test_an_experiment_changes_one_parameter_and_its_metrics_can_be_compared(root):
    dvc(root, "exp", "run", "--set-param", "train.lr=0.003")
    changed = json.loads(dvc(root, "params", "diff", "--json"))
    assert changed["params.yaml"]["train.lr"]["new"] == 0.003
    assert "reports/training/metrics.json" in json.loads(dvc(root, "metrics", "diff", "--json"))


def lose_outputs(root: Path) -> None:
    for name in ("data", "models", "reports", ".dvc/cache"):
        shutil.rmtree(root / name)


def test_results_come_back_from_the_default_remote(root):
    before = (root / "models" / "bundle" / "manifest.json").read_text()
    dvc(root, "push")
    lose_outputs(root)
    dvc(root, "pull")
    assert (root / "models" / "bundle" / "manifest.json").read_text() == before


def test_a_fresh_clone_has_its_results_from_s3_and_every_digest_is_right(root, tmp_path):
    with s3_server(tmp_path / "s3") as server:
        s3fs.S3FileSystem(
            key=server.access_key, secret=server.secret_key, endpoint_url=server.endpoint, skip_instance_cache=True
        ).mkdir("noria")
        dvc(root, "remote", "add", "--default", "production", "s3://noria/dvc")
        git(root, "commit", "--all", "--quiet", "--message", "Name the remote")
        dvc(root, "push", **server.environment)
        clone = tmp_path / "clone"
        git(tmp_path, "clone", "--quiet", str(root), str(clone))
        dvc(clone, "pull", **server.environment)
    assert noria("init", str(clone), cwd=clone).returncode == 0  # the intake is in no repository
    assert server.secret_key not in (root / ".dvc" / "config").read_text()
    bundle = Path("models", "bundle", "manifest.json")
    assert (clone / bundle).read_bytes() == (root / bundle).read_bytes()
    verified = noria("verify", "--json", cwd=clone)
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["verified"]["artifacts"] >= 9
    assert dvc(clone, "status").strip() == "Data and pipelines are up to date."
