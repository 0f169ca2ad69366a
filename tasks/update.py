"""evaluate and update: the canary by what it did, then the staged challenger against the live champion.

Promote, canary, keep, or inconclusive.
"""

import json
import logging
from pathlib import Path

from noria.artifacts import Artifact, read_artifact, write_artifact
from noria.evaluation.judged import read_validation
from noria.serving.bundle import read_bundle, version_of
from noria.serving.consent import read_consent
from noria.serving.contest import Verdict
from noria.serving.store import store_of
from noria.serving.update import update_production, verdict_json
from noria.serving.verdict_page import verdict_markdown
from noria.workspace import Workspace
from tasks.node import main, node

logger = logging.getLogger(__name__)

VERDICT, SUMMARY = "verdict.json", "verdict.md"


def verdict_table(workspace: Workspace) -> str:
    """What became of the canary; the decision, its reasons, and the gain everywhere and per slice."""
    return (workspace.verdict / SUMMARY).read_text(encoding="utf-8")


def write_verdict(path: Path, verdict: Verdict, *, parents: tuple[Artifact, ...] = ()) -> Artifact:
    """Write the artifact "verdict"."""
    with write_artifact(path, kind="verdict", parents=parents) as draft:
        values = json.dumps(verdict_json(verdict), indent=2, ensure_ascii=False)
        (draft.path / VERDICT).write_text(values + "\n", encoding="utf-8")
        (draft.path / SUMMARY).write_text(verdict_markdown(verdict), encoding="utf-8")
        draft.facts["decision"] = verdict.decision
    return read_artifact(path)


@node("update", summary=verdict_table, timeout_s=1800, pure=False)
def update(workspace: Workspace) -> Artifact:
    config = workspace.config
    splits, bundle = read_artifact(workspace.splits), read_bundle(workspace.bundle)
    verdict = update_production(
        store_of(workspace),
        version_of(bundle),
        read_validation(splits.path),
        deploy=config.deploy,
        config=config.update,
        evaluate=config.evaluate,
        seed=config.seed,
        consent=read_consent(workspace.consent),
    )
    logger.info("%s: %s", verdict.decision, "; ".join(verdict.reasons))
    return write_verdict(workspace.verdict, verdict, parents=(splits, bundle))


if __name__ == "__main__":
    main(update)
