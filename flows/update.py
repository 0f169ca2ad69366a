"""Evaluate and update, on schedule: look at what came, and train anew only when it should."""

from __future__ import annotations

import argparse

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed

from flows.approval import ask_person
from flows.crashes import run_alone
from flows.pipeline import new_model
from noria.artifacts import Artifact
from noria.workspace import Workspace
from tasks.arrivals import arrivals
from tasks.decide import decide
from tasks.monitor import monitor
from tasks.propose import propose
from tasks.update import update


@flow(name="evaluate-and-update", persist_result=False)
def evaluate_and_update(directory: str = ".", wait_s: float = 3600.0) -> State[str]:
    """From what arrived to a better model in production, where one is called for.

    Parameters
    ----------
    directory:
        The workspace.
    wait_s:
        How long to wait for another run in it.
    """
    workspace = Workspace.at(directory)
    with run_alone(workspace, wait_s=wait_s):
        arrived = arrivals(workspace)
        monitored = monitor(workspace, arrived)
        decided = decide(workspace, arrived, monitored)
        if action(decided) == "none":
            return ended("Nothing to do", decided)
        if action(decided) == "call":
            return ended("Called a person", decided)
        deployed, evaluation = new_model(workspace, decided)
        proposed = propose(workspace, deployed, evaluation) if needs_approval(workspace) else None
    if proposed is not None and is_better(proposed):
        ask_person(workspace, proposed.result())
    with run_alone(workspace, wait_s=wait_s):
        updated = update(workspace, deployed, evaluation)
    return ended(f"Trained: {updated.result().facts['decision']}", decided)


def action(decided: PrefectFuture[Artifact]) -> str:
    """The diamond after the decision: "none", "retrain" or "call"."""
    return str(decided.result().facts["action"])


def needs_approval(workspace: Workspace) -> bool:
    """Whether a person is asked before a better model goes live."""
    return workspace.config.update.approval == "required"


def is_better(proposed: PrefectFuture[Artifact]) -> bool:
    """The diamond after a proposal: whether there is anything to approve."""
    return proposed.result().facts["decision"] == "promote"


def ended(name: str, decided: PrefectFuture[Artifact]) -> State[str]:
    """The run's last state: what was done in its name, why in its message, what was decided in its data."""
    reasons = decided.result().facts["reasons"]
    assert isinstance(reasons, list)
    return Completed(name=name, message="; ".join(map(str, reasons)), data=action(decided))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    evaluate_and_update(parser.parse_args().directory)
