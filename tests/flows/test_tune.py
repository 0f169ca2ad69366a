"""`noria tune` as a user runs it: trials in the UI's records, a report, and a diff that can be applied."""

import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from tuned import make_workspace
from workspaces import environment, noria, noria_command

from noria.errors import ConfigError

RATES = {"pruner": "none", "startup_trials": 1, "space": {"train.lr": [1.0e-6, 3.0e-3]}}


@pytest.mark.slow
def test_a_search_shows_its_trials_and_its_best_parameters_can_be_applied(tmp_path):
    root = make_workspace(tmp_path / "ws", tune=RATES, lr=1.0e-6).root
    before = (root / "params.yaml").read_text()
    done = noria("tune", "--trials", "2", "--parallel", "2", "--json", cwd=root)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["baseline"]["values"] == {"train.lr": 1e-6} and found["best"]["values"] == {"train.lr": 0.003}
    assert found["gain"] > 0 and "+  lr: 0.003" in found["diff"] and not found["applied"]
    assert (root / "params.yaml").read_text() == before
    with sqlite3.connect(root / ".noria" / "prefect" / "prefect.db") as database:
        names = {name for (name,) in database.execute("select name from task_run")}
        artifacts = dict(database.execute("select key, data from artifact"))
    assert any(name.startswith("trial 0: as it is, lr 1e-06") for name in names) and len(names) == 3
    assert {"tuning", "tuning-pictures", "tuning-report"} <= artifacts.keys()
    page = root / "reports" / "tuning" / "index.html"
    assert str(page) in artifacts["tuning-report"] and "](" not in artifacts["tuning-report"]
    text = page.read_text()
    assert "+  lr: 0.003" in text and "<td>0 (as it is)</td>" in text and text.count("data:image/png;base64,") >= 3
    assert {"history.png", "slices.png", "parallel.png"} <= {path.name for path in (root / "reports/tuning").iterdir()}

    done = noria("tune", "--trials", "2", "--apply", cwd=root)
    assert done.returncode == 0 and "params.yaml is changed" in done.stdout, done.stderr
    after = yaml.safe_load((root / "params.yaml").read_text())
    assert after["train"].pop("lr") == 0.003
    expected = yaml.safe_load(before)
    del expected["train"]["lr"]
    assert after == expected and (root / "params.yaml").read_text().startswith("# ours\n")


@pytest.mark.slow
def test_a_search_whose_time_is_over_inside_a_trial_still_reports(tmp_path):
    root = make_workspace(tmp_path / "ws", tune=RATES, epochs=5000, pretrain={"epochs": 0}).root
    done = noria("tune", "--minutes", "0.2", cwd=root)
    assert done.returncode == 0, done.stderr
    assert "| 0 (as it is) | running |" in done.stdout and "nothing to compare with" in done.stdout
    assert "| running |" in (root / "reports" / "tuning" / "tuning.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_search_that_is_told_to_end_ends_its_training_too(tmp_path, number):
    workspace = make_workspace(tmp_path / "ws", tune=RATES, epochs=5000, pretrain={"epochs": 0})
    with subprocess.Popen(
        noria_command("tune"), cwd=workspace.root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until = time.monotonic() + 120
        while not (locks := list(workspace.tuning.glob("*/trial-0000/scratch/state/*"))):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(number)
        process.communicate(timeout=90)
    assert process.returncode != 0
    (lock,) = workspace.tuning.glob("*/trial-0000/worker.lock")
    assert not Path(f"/proc/{lock.read_text()}").exists() and locks


def test_a_slip_in_the_space_stops_it_before_it_starts(tmp_path):
    root = make_workspace(tmp_path / "ws", tune={"space": {"train.lrr": [1]}}).root
    done = noria("tune", cwd=root)
    assert done.returncode == ConfigError.exit_code
    assert "did you mean `train.lr`" in done.stderr and "Traceback" not in done.stderr
    assert not (root / ".noria" / "tune").exists()
