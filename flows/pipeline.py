"""The flowchart. Every box is a node in `tasks/`, every diamond an `if`."""

from __future__ import annotations

import argparse

from prefect import flow
from prefect.futures import PrefectFuture

from flows.crashes import run_alone
from noria.artifacts import Artifact
from noria.data.augment import refusal
from noria.workspace import Workspace
from tasks.augment import augment
from tasks.check import check, check_again
from tasks.clean import clean
from tasks.deploy import deploy
from tasks.evaluate import evaluate
from tasks.ingest import ingest
from tasks.optimize import optimize
from tasks.preprocess import preprocess
from tasks.split import split
from tasks.train import train
from tasks.update import update


@flow(name="pipeline", persist_result=False)
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
    with run_alone(workspace, wait_s=wait_s):
        deployed, evaluation = new_model(workspace)
        update(workspace, deployed, evaluation)


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
