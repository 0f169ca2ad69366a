"""Evaluate and update, on schedule: look at what came, and train anew only when it should."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed

from flows.approval import ask_person, is_asked
from flows.crashes import run_alone
from flows.pipeline import new_model
from noria.artifacts import Artifact
from noria.serving.store import store_of
from noria.workspace import Workspace
from tasks.arrivals import arrivals
from tasks.decide import decide
from tasks.monitor import monitor
from tasks.notify import changed, tell_approval, tell_call, tell_change, tell_failure, tell_refusal
from tasks.propose import propose
from tasks.record import recorded
from tasks.trial import trial
from tasks.update import update


@flow(name="evaluate-and-update", persist_result=False, on_failure=[tell_failure], on_crashed=[tell_failure])
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
    with ExitStack() as run:
        with run_alone(workspace, wait_s=wait_s):
            run.enter_context(recorded(workspace))  # once it is this one's turn, and to its end
            if is_tried(workspace) and changed((tried := trial(workspace)).result()):
                tell_change(workspace, tried.result())
            arrived = arrivals(workspace)
            monitored = monitor(workspace, arrived)
            decided = decide(workspace, arrived, monitored)
            if action(decided) == "call":
                tell_call(workspace, decided.result())
                return ended("Called a person", decided)
            if is_refused(arrived):
                tell_refusal(workspace, arrived.result())
            if action(decided) == "none":
                return ended("Nothing to do", decided)
            if needs_approval(workspace) and is_asked(workspace):
                return ended("A person is asked already", decided)
            deployed, evaluation = new_model(workspace, decided)
            proposed = propose(workspace, deployed, evaluation) if needs_approval(workspace) else None
        if proposed is not None and is_better(proposed):
            tell_approval(workspace, proposed.result())
            ask_person(workspace, proposed.result())
        with run_alone(workspace, wait_s=wait_s):
            updated = update(workspace, deployed, evaluation)
        if changed(updated.result()):
            tell_change(workspace, updated.result())
        return ended(f"Trained: {updated.result().facts['decision']}", decided)


def is_tried(workspace: Workspace) -> bool:
    """Whether a canary stands beside the champion: it is judged at every update, whether anything came or not."""
    live = store_of(workspace).production()
    return live is not None and live.canary is not None


def action(decided: PrefectFuture[Artifact]) -> str:
    """The diamond after the decision: "none", "retrain" or "call"."""
    return str(decided.result().facts["action"])


def is_refused(arrived: PrefectFuture[Artifact]) -> bool:
    """The diamond after the gate: whether it refused anything of what is new as a whole."""
    return bool(arrived.result().facts["objects_refused"])


def needs_approval(workspace: Workspace) -> bool:
    """Whether a person is asked before a better model goes live."""
    return workspace.config.update.approval == "required"


def is_better(proposed: PrefectFuture[Artifact]) -> bool:
    """The diamond after a proposal: whether there is anything to approve."""
    return proposed.result().facts["decision"] == "promote"


def ended(name: str, decided: PrefectFuture[Artifact]) -> State[str]:
    """The run's last state: what was done in its name, why in its message, what was decided in its data."""
    return Completed(name=name, message=reasons(decided), data=action(decided))


def reasons(decided: PrefectFuture[Artifact]) -> str:
    """Why, in words."""
    found = decided.result().facts["reasons"]
    assert isinstance(found, list)
    return "; ".join(map(str, found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    evaluate_and_update(parser.parse_args().directory)
