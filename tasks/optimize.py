"""optimize: the model, and smaller ones of it, in many forms; the fastest inside the budget becomes the bundle."""

from noria.artifacts import Artifact, read_artifact
from noria.export.summary import optimization_markdown
from noria.training.report import read_resources
from noria.workspace import Workspace
from tasks.node import main, node


def candidates(workspace: Workspace) -> str:
    """Every candidate's quality, latency and size, and the reason for the choice."""
    return optimization_markdown(workspace.optimization)


@node("optimize", summary=candidates, timeout_s=4 * 3600)
def optimize(workspace: Workspace) -> Artifact:
    from noria.export.bundle import git_commit
    from noria.export.optimize import optimize_checkpoint

    return optimize_checkpoint(
        read_artifact(workspace.checkpoint),
        read_artifact(workspace.splits),
        workspace.bundle,
        workspace.optimization,
        scenario=workspace.scenario,
        config=workspace.config,
        git_commit=git_commit(workspace.root),
        resources=read_resources(workspace.training_report),
    )


if __name__ == "__main__":
    main(optimize)
