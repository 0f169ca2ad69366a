"""clean: the fail branch. Repairs what it can and quarantines the rest; after a pass, lets the data through."""

from noria.artifacts import Artifact, read_artifact
from noria.data.clean import clean_rows
from noria.data.report import cleaning_table
from noria.workspace import Workspace
from tasks.node import main, node


def ledger(workspace: Workspace) -> str:
    """Rows kept, repaired and refused, by rule."""
    return cleaning_table(read_artifact(workspace.cleaned, verify=False))


@node("clean", summary=ledger)
def clean(workspace: Workspace) -> Artifact:
    return clean_rows(
        read_artifact(workspace.preprocessed),
        read_artifact(workspace.quality("check")),
        workspace.cleaned,
        quarantine=workspace.quarantine("clean"),
        scenario=workspace.scenario,
        config=workspace.config.clean,
    )


if __name__ == "__main__":
    main(clean)
