"""`noria run`: the whole flowchart."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from noria.cli.options import add_directory, add_wait

if TYPE_CHECKING:
    from noria.workspace import Workspace

_DVC_LOCK = "dvc.lock records which data, code and parameters made these results: commit it to share them."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("run", help="run what changed, from the sources to a model in production")
    add_directory(parser)
    add_wait(parser)


def run(args: argparse.Namespace) -> int:
    """Check what can be checked, then run the flow."""
    from flows.command import ready_to_run

    started = time.monotonic()
    workspace = flow_ready(args.directory)
    show_nodes()
    with ready_to_run(workspace):
        from flows.pipeline import pipeline

        pipeline(str(workspace.root), wait_s=args.wait_s)
    print(f"done in {time.monotonic() - started:.1f} s")
    print(_DVC_LOCK)
    return 0


def flow_ready(directory: str) -> Workspace:
    """The workspace, once it is known that a flow can run in it.

    Raises
    ------
    ConfigError, SourceError, DiskFull
    """
    from noria.preflight import check_ready
    from noria.serving.deployment import SIGNING_KEY
    from noria.serving.signature import read_private_key
    from noria.workspace import Workspace

    workspace = Workspace.at(directory)
    check_ready(workspace)
    if key := os.environ.get(SIGNING_KEY):
        read_private_key(Path(key))  # known to be one before anything is trained
        os.environ[SIGNING_KEY] = str(Path(key).absolute())  # deploy runs elsewhere
    return workspace


def show_nodes() -> None:
    """Print the runner's one line a node."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    nodes = logging.getLogger("noria.flow")
    nodes.addHandler(handler)
    nodes.setLevel(logging.INFO)
    nodes.propagate = False
