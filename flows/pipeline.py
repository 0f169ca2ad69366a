"""The flowchart. Every box is a node in `tasks/`, every diamond an `if`."""

from __future__ import annotations

import argparse

from prefect import flow
from prefect.futures import PrefectFuture

from noria.artifacts import Artifact
from noria.data.augment import refusal
from noria.lease import hold
from noria.workspace import Workspace
from tasks.augment import augment
from tasks.check import check, check_again
from tasks.clean import clean
from tasks.deploy import deploy
from tasks.evaluate import evaluate
from tasks.ingest import ingest
from tasks.notify import changed, tell_change, tell_failure
from tasks.optimize import optimize
from tasks.preprocess import preprocess
from tasks.record import recorded
from tasks.split import split
from tasks.train import train
from tasks.update import update


@flow(name="pipeline", persist_result=False, on_failure=[tell_failure], on_crashed=[tell_failure])
def pipeline(directory: str = ".", wait_s: float = 3600.0) -> None:
    """From the sources to a model in production.

    Parameters
    ----------
    directory:
        The workspace.
    wait_s:
        How long to wait for another run in it.
    """
    workspace = Workspace.at(directory)
    with hold(workspace, wait_s=wait_s), recorded(workspace):
        deployed, evaluation = new_model(workspace)
        updated = update(workspace, deployed, evaluation).result()
        if changed(updated):
            tell_change(workspace, updated)


def new_model(workspace: Workspace, *decided: PrefectFuture[Artifact]) -> tuple[PrefectFuture[Artifact], ...]:
    """From the sources to a version that is staged, and its evaluation; after what was `decided`, if anything."""
    raw = ingest(workspace, *decided)
    preprocessed = preprocess(workspace, raw)
    verdict = check(workspace, preprocessed)
    if not passed(verdict):
        cleaned = clean(workspace, preprocessed, verdict)
        verdict = check_again(workspace, cleaned)
        if not passed(verdict):
            raise refusal(cleaned.result(), verdict.result())
    augmented = augment(workspace, verdict)
    splits = split(workspace, augmented)
    checkpoint = train(workspace, splits)
    evaluation = evaluate(workspace, splits, checkpoint)
    bundle = optimize(workspace, splits, checkpoint)
    deployed = deploy(workspace, bundle)
    return deployed, evaluation


def passed(verdict: PrefectFuture[Artifact]) -> bool:
    """The diamond after a quality check."""
    return bool(verdict.result().facts["passed"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")
    pipeline(parser.parse_args().directory)
