"""docs/adding-a-scenario.md, done as it stands there: its files, then its commands."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noria.artifacts import read_artifact
from noria.workspace import Workspace

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "adding-a-scenario.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)\n```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = {body.split("\n")[0].removeprefix("# "): f"{body}\n" for language, body in BLOCKS if language}
COMMANDS = [line for language, body in BLOCKS if not language for line in body.split("\n")]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of Noria with the page's files in it."""
    code = tmp_path / "code"
    for name in ("noria", "tasks", "flows", "expectations", "workspaces"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    (code / ".dvc").mkdir()
    for name in (
        ".dvc/config",
        ".dvcignore",
        ".gitignore",
        "dvc.yaml",
        "params.yaml",
        "params.schema.json",
        "prefect.yaml",
    ):
        shutil.copy(ROOT / name, code / name)
    for path, body in FILES.items():
        (code / path).write_text(body, encoding="utf-8")
    return code


@pytest.mark.slow
def test_what_the_page_says_makes_a_scenario_that_goes_through_the_whole_flow(code: Path, tmp_path: Path) -> None:
    assert set(FILES) == {"noria/scenarios/text_length.py", "expectations/text-length.yaml"}
    assert [line.split()[:2] for line in COMMANDS][:3] == [["noria", "init"], ["noria", "run"], ["noria", "predict"]]
    answers = [_run(line, cwd=tmp_path, code=code) for line in COMMANDS]
    length = float(re.search(r"\d+\.\d+", answers[2])[0])  # type: ignore[index]
    assert length == pytest.approx(len("abcabcabcabc"), abs=5)
    workspace = Workspace.at(tmp_path / "lengths")
    assert read_artifact(workspace.verdict).facts["decision"] == "promote"
    assert read_artifact(workspace.cleaned).counts["quarantined"] == 30
    listed = (code / "workspaces" / "text-length" / "code.yaml").read_text(encoding="utf-8")
    assert "noria/scenarios/text_length.py" in listed


def _run(line: str, *, cwd: Path, code: Path) -> str:
    program, *arguments = shlex.split(line)
    command = str(Path(sys.executable).with_name(program))
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout
