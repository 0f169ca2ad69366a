"""decide: nothing to do, train anew, or stop and call a person; the reasons in words, with their numbers."""

import logging

from noria.artifacts import Artifact, read_artifact
from noria.monitoring.decide import decide as rule
from noria.monitoring.decision import PAGE, situation_of, write_decision
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.node import main, node

logger = logging.getLogger(__name__)


def decision(workspace: Workspace) -> str:
    """What is to be done, why, and every rule that was asked."""
    return (workspace.decision / PAGE).read_text(encoding="utf-8")


@node("decide", summary=decision, pure=False)
def decide(workspace: Workspace) -> Artifact:
    arrivals, monitoring = read_artifact(workspace.arrivals), read_artifact(workspace.monitoring)
    situation = situation_of(arrivals, monitoring, store_of(workspace), raw=workspace.raw)
    decided = rule(situation, config=workspace.config.update)
    logger.info("%s: %s", decided.action, "; ".join(decided.reasons))
    return write_decision(workspace.decision, decided, situation, parents=(arrivals, monitoring))


if __name__ == "__main__":
    main(decide)
