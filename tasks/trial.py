"""judge canary: what stands beside the champion, by what the servers counted of both: promote, withdraw, or go on."""

import logging

from noria.artifacts import Artifact
from noria.serving.store import store_of
from noria.serving.update import judge_canary, nothing_is_tried
from noria.workspace import Workspace
from tasks.node import main, node
from tasks.update import SUMMARY, write_verdict

logger = logging.getLogger(__name__)


def trial_table(workspace: Workspace) -> str:
    """What became of the canary, with the figures of both."""
    return (workspace.trial / SUMMARY).read_text(encoding="utf-8")


@node("judge canary", summary=trial_table, pure=False)
def trial(workspace: Workspace) -> Artifact:
    config, store = workspace.config, store_of(workspace)
    verdict = judge_canary(store, deploy=config.deploy, config=config.update) or nothing_is_tried(store.production())
    logger.info("%s: %s", verdict.decision, "; ".join(verdict.reasons))
    return write_verdict(workspace.trial, verdict)


if __name__ == "__main__":
    main(trial)
