"""The code that a stage depends on, as `dvc.yaml` lists it: what its process was seen to import.

    python -m noria.stage_code WORKSPACE

writes down what the last run of a workspace imported: into `dvc.yaml` for the repository's own scenario,
into `workspaces/NAME/code.yaml` for another, from where `noria init` takes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from noria.config import read_params

_CODE = Path(__file__).resolve().parents[1]
_DEP = "      - ${code}/"
_COMPRESSES, _TRAINS = "optimize", "train"
_LEARNS = ("noria/data/", "noria/model/", "noria/recipes/")
SHOWS_ONLY = frozenset(
    {
        "noria/errors.py",
        "noria/events.py",
        "noria/lifeline.py",
        "noria/traces.py",
        "noria/workspace.py",
        "noria/data/report.py",
        "tasks/node.py",
        "tasks/process.py",
        "tasks/curve.py",
    }
)
"""What a stage imports and what changes no byte of its outputs: messages, runners, summaries, names of paths."""


def used_code(workspace: Path, stages: Sequence[str]) -> dict[str, list[str]]:
    """By stage, the files whose change can change its outputs, as its last process imported them.

    `optimize` trains, too, where `optimize.compress` is set: what `train` imported to learn from rows is its as well.
    """
    used = {stage: _imported(workspace, stage) for stage in stages}
    if _COMPRESSES in used:
        learns = {path for path in _imported(workspace, _TRAINS) if path.startswith(_LEARNS)}
        used[_COMPRESSES] |= learns
    return {
        stage: sorted(paths, key=lambda path: (not path.startswith("tasks/"), path)) for stage, paths in used.items()
    }


def with_code(dvc_text: str, code: Mapping[str, Sequence[str]]) -> str:
    """A `dvc.yaml` whose stages depend on these files in place of those it lists."""
    lines: list[str] = []
    stage = ""
    for line in dvc_text.splitlines():
        if line.startswith(_DEP):
            if not lines[-1].startswith(_DEP):
                lines += [f"{_DEP}{path}" for path in code[stage]]
            continue
        if line.startswith("  ") and line[2] not in " -#" and line.endswith(":"):
            stage = line.strip().rstrip(":")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _imported(workspace: Path, stage: str) -> set[str]:
    events = workspace / ".noria" / "events" / f"{stage}.jsonl"
    parsed = map(json.loads, events.read_text(encoding="utf-8").splitlines())
    (modules,) = (event["modules"] for event in parsed if event["kind"] == "modules")
    return {path for path in modules if path not in SHOWS_ONLY and not path.endswith("__init__.py")}


def main(workspace: Path) -> None:
    """Write down what the last run of `workspace` imported."""
    scenario = read_params(workspace / "params.yaml")["scenario"]
    dvc_text = (_CODE / "dvc.yaml").read_text(encoding="utf-8")
    code = used_code(workspace, list(yaml.safe_load(dvc_text)["stages"]))
    if scenario == read_params(_CODE / "params.yaml")["scenario"]:
        (_CODE / "dvc.yaml").write_text(with_code(dvc_text, code), encoding="utf-8")
        return
    target = _CODE / "workspaces" / str(scenario) / "code.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(yaml.safe_dump(code, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
