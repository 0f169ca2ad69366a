"""augment: the pass branch. Adds training rows that point at their parents; refuses data that failed the gate."""

from noria.artifacts import Artifact, read_artifact
from noria.data.augment import augment_rows
from noria.data.report import augmentation_table
from noria.workspace import Workspace
from tasks.node import main, node


def samples(workspace: Workspace) -> str:
    """How many rows were added, and a few beside their parents."""
    return augmentation_table(read_artifact(workspace.augmented, verify=False), scenario=workspace.scenario)


@node("augment", summary=samples, through=("clean", "recheck"))
def augment(workspace: Workspace) -> Artifact:
    config = workspace.config
    return augment_rows(
        read_artifact(workspace.cleaned),
        read_artifact(workspace.quality("recheck")),
        workspace.augmented,
        scenario=workspace.scenario,
        config=config.augment,
        split=config.split,
        seed=config.seed,
    )


if __name__ == "__main__":
    main(augment)
