"""Workspaces whose source is an object an hour, on disk or in S3, and the objects."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import workspaces

from noria.data.arrivals import BATCHES
from noria.data.gate import ROWS
from noria.data.intake import make_intake
from noria.data.rows import read_rows
from noria.workspace import Workspace
from tasks.arrivals import arrivals

CODE = Path(__file__).parent.parent
PARAMS = """\
name: reviews
scenario: text-classification
source: {path: sources/hours}
arrivals: {min_profile_rows: 50}
"""


def make(root: Path, source: str) -> Workspace:
    """A workspace of tables of reviews, which has read nothing yet."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(PARAMS.replace("sources/hours", source))
    shutil.copytree(CODE / "expectations", root / "expectations")
    make_intake(root)
    return Workspace.at(root)


def table(rows) -> bytes:
    """Texts and labels as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows([("text", "label"), *rows])
    return text.getvalue().encode()


def hour(number: int, num_rows: int = 12) -> bytes:
    """Good rows of an hour; no two hours have one in common."""
    return table(workspaces.good_rows(num_rows, seed=number))


def foreign(number: int, num_rows: int = 12) -> bytes:
    """An hour in a language that the model does not read."""
    return table((f"only english words, number {number}.{n}", "neg") for n in range(num_rows))


class Found:
    """What the node found: facts, texts of the rows, and batches by the name of their first object."""

    def __init__(self, workspace: Workspace) -> None:
        self.artifact = arrivals.fn(workspace)
        self.facts = self.artifact.facts
        self.rows = list(read_rows(self.artifact.path / ROWS))
        self.ids = sorted(str(row["id"]) for row in self.rows)
        listed = json.loads((self.artifact.path / BATCHES).read_text())
        self.batches = {batch["objects"][0]["name"]: batch for batch in listed}
        self.objects = sorted({str(row["origin"]).rpartition(":")[0] for row in self.rows})
