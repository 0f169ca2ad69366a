"""propose: what the update would decide of the staged challenger, for whoever has to approve; nothing changes."""

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.evaluation.judged import read_validation
from noria.serving.bundle import read_bundle, version_of
from noria.serving.store import store_of
from noria.serving.update import propose as judge
from noria.serving.verdict_page import verdict_markdown
from noria.workspace import Workspace
from tasks.node import main, node

PAGE = "proposal.md"


def proposal(workspace: Workspace) -> str:
    """The verdict that waits for a person."""
    return (workspace.proposal / PAGE).read_text(encoding="utf-8")


@node("propose", summary=proposal, timeout_s=1800, pure=False)
def propose(workspace: Workspace) -> Artifact:
    config = workspace.config
    splits, bundle = read_artifact(workspace.splits), read_bundle(workspace.bundle)
    rows, version, store = read_validation(splits.path), version_of(bundle), store_of(workspace)
    verdict = judge(store, version, rows, config=config.update, evaluate=config.evaluate, seed=config.seed)
    with write_artifact(workspace.proposal, kind="proposal", parents=(splits, bundle)) as draft:
        (draft.path / PAGE).write_text(verdict_markdown(verdict), encoding="utf-8")
        draft.facts = {"version": version, "decision": verdict.decision, "reasons": list(verdict.reasons)}
    return read_artifact(workspace.proposal)


if __name__ == "__main__":
    main(propose)
