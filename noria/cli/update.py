"""`noria update`: look at what arrived, and train anew only when it should."""

from __future__ import annotations

import argparse
import time

from noria.cli.options import add_directory
from noria.cli.run import flow_ready, show_nodes

_CALLED = 15


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("update", help="evaluate the champion on what arrived; train anew if it should")
    add_directory(parser)
    parser.add_argument(
        "--wait-s", type=float, default=3600.0, metavar="S", help="how long to wait for another run (default: 3600)"
    )


def run(args: argparse.Namespace) -> int:
    """Check what can be checked, then run the flow; 0 unless a person has to look (15) or it failed."""
    started = time.monotonic()
    workspace = flow_ready(args.directory)
    show_nodes()
    from flows.server import prefect_api

    with prefect_api(workspace):
        from flows.update import evaluate_and_update

        state = evaluate_and_update(str(workspace.root), wait_s=args.wait_s, return_state=True)
        action = state.result()
    print(f"{state.name}: {state.message}")
    print(f"done in {time.monotonic() - started:.1f} s")
    return _CALLED if action == "call" else 0
