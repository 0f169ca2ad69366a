"""Noria: eleven stages of DVC, each a process, each a Prefect task.

python -m benchmarks.orchestrators.noria_flow DIR          runs the flow in a workspace that `write_workspace` made
python -m benchmarks.orchestrators.noria_flow DIR NUMBER   is the process of one stage
"""

from __future__ import annotations

import atexit
import gc
import sys
from pathlib import Path

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.workspace import Workspace
from tasks.node import Node

NUM_STEPS = 11
_CODE = Path(__file__).parents[2]


def _place(workspace: Workspace, number: int) -> Path:
    return workspace.root / "data" / f"step_{number:02d}"


def _node(number: int) -> Node:
    def give(workspace: Workspace) -> Artifact:
        before = (read_artifact(_place(workspace, number - 1)),) if number else ()
        with write_artifact(_place(workspace, number), kind=f"step_{number:02d}", parents=before) as draft:
            (draft.path / "result").write_text(str(number))
        return read_artifact(_place(workspace, number), verify=False)

    name = f"step_{number:02d}"
    return Node(name=name, stage=name, fn=give, summary=lambda workspace: f"**{number}**")


NODES = tuple(_node(number) for number in range(NUM_STEPS))


def write_workspace(root: Path) -> None:
    """Make a directory a workspace of these stages."""
    import subprocess  # not for the stages, whose process this module is

    import yaml

    root.mkdir(parents=True)
    git = ("git", "-c", "user.name=noria", "-c", "user.email=noria@localhost")
    subprocess.run([*git, "init", "--quiet"], cwd=root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)
    (root / ".dvc" / "config").write_text((_CODE / ".dvc" / "config").read_text())
    (root / ".gitignore").write_text("data/\n.noria/\n")
    (root / "params.yaml").write_text("name: eleven\nscenario: text-classification\nsource: {path: none}\nseed: 1\n")
    stages = {
        node.stage: {
            "cmd": f"PYTHONPATH={_CODE} python -m {__spec__.name} . {number}",
            "deps": [f"data/step_{number - 1:02d}"] if number else ["params.yaml"],
            "outs": [f"data/step_{number:02d}"],
        }
        for number, node in enumerate(NODES)
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


def run(directory: str) -> None:
    """As `noria run` runs the flowchart."""
    from flows.command import ready_to_run

    atexit.register(gc.freeze)
    workspace = Workspace.at(directory)
    with ready_to_run(workspace):
        from prefect import flow

        from noria.lease import hold

        @flow(name="eleven", persist_result=False)
        def eleven() -> None:
            with hold(workspace, wait_s=0):
                future = NODES[0](workspace)
                for node in NODES[1:]:
                    future = node(workspace, future)

        eleven()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        from tasks.process import run_node

        chosen = NODES[int(sys.argv.pop())]
        sys.argv = [sys.argv[0], "-C", sys.argv[1]]
        run_node(chosen, again=None)
    else:
        run(sys.argv[1])
