"""preprocess: every row with the columns that the gate judges; nothing is put right yet."""

from noria.artifacts import Artifact, read_artifact
from noria.data.preprocess import preprocess_rows
from noria.data.report import measured_table
from noria.workspace import Workspace
from tasks.node import main, node


def measurements(workspace: Workspace) -> str:
    """What was measured: range and mean of each column."""
    preprocessed = read_artifact(workspace.preprocessed, verify=False)
    return measured_table(preprocessed, measure=workspace.scenario.measure)


@node("preprocess", summary=measurements)
def preprocess(workspace: Workspace) -> Artifact:
    raw = read_artifact(workspace.raw)
    return preprocess_rows(
        raw, workspace.preprocessed, measure=workspace.scenario.measure, config=workspace.config.preprocess
    )


if __name__ == "__main__":
    main(preprocess)
