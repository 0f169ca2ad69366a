"""`noria run` with smaller models in the search, from the source to a version that is live and answers."""

import csv
import json
from pathlib import Path

import pytest
import workspaces

from noria.artifacts import read_artifact

pytestmark = pytest.mark.slow


def test_a_run_makes_smaller_models_and_the_best_goes_live(tmp_path: Path) -> None:
    root = workspaces.make_workspace(tmp_path / "compressed", workspaces.good_rows(400))
    compress = {"prune": {"heads": 0.5, "feed_forward": 0.5, "steps": 20}, "distill": {"layers": 1, "steps": 20}}
    workspaces.change_params(root, {"model": {"layers": 2}, "optimize": {"compress": compress}})
    done = workspaces.noria("run", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "distill" in (root / ".noria" / "events" / "optimize.jsonl").read_text()
    with (root / "reports" / "optimization" / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    forms = ("fp32", "fused", "int8")
    names = ["pytorch", *forms, *(f"{smaller}-{form}" for smaller in ("pruned", "student") for form in forms)]
    assert [row["candidate"] for row in rows] == names
    made = json.loads((root / "reports" / "optimization" / "metrics.json").read_text())["compress"]
    assert list(made) == ["pruned", "student"] and all(each["seconds"] > 0 for each in made.values())
    (chosen,) = (row["candidate"] for row in rows if row["chosen"])
    assert read_artifact(root / "models" / "bundle").facts["candidate"] == chosen
    answer = workspaces.noria("predict", "质量很好，非常满意", "--json", cwd=root)
    assert answer.returncode == 0 and json.loads(answer.stdout)["label"] in ("pos", "neg")
    again = workspaces.noria("plan", "--json", cwd=root)
    assert again.returncode == 0 and json.loads(again.stdout)["stages"] == []
