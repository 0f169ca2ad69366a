"""arrivals: what is new in the source and in feedback, through the gate. Objects that are known are not read."""

from functools import partial
from pathlib import Path

from noria.artifacts import Artifact, read_artifact
from noria.data.report import arrivals_table
from noria.serving.arriving import collect_arrivals
from noria.workspace import Workspace
from tasks.check import judge_rows
from tasks.node import main, node


def arrived(workspace: Workspace) -> str:
    """The batches, and what the gate said of them."""
    return arrivals_table(read_artifact(workspace.arrivals, verify=False))


@node("new data", summary=arrived, retries=1, pure=False)
def arrivals(workspace: Workspace) -> Artifact:
    judge = partial(_judge_part, workspace)
    return collect_arrivals(workspace, judge=judge)


def _judge_part(workspace: Workspace, rows: Artifact, report: Path) -> Artifact:
    few = workspace.config.arrivals.min_profile_rows
    return judge_rows(rows, workspace, report=report, min_profile_rows=few)


if __name__ == "__main__":
    main(arrivals)
