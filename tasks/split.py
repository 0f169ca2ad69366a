"""split: train and validation, by hash of the row's group; leak-free, and stable as data grows."""

from noria.artifacts import Artifact, read_artifact
from noria.data.report import split_table
from noria.data.split import split_rows
from noria.workspace import Workspace
from tasks.node import main, node


def sizes(workspace: Workspace) -> str:
    """Rows and class balance of each side."""
    return split_table(read_artifact(workspace.splits, verify=False))


@node("split", summary=sizes)
def split(workspace: Workspace) -> Artifact:
    return split_rows(
        read_artifact(workspace.augmented),
        workspace.splits,
        quarantine=workspace.quarantine("split"),
        scenario=workspace.scenario,
        config=workspace.config.split,
    )


if __name__ == "__main__":
    main(split)
