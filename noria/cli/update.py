"""`noria update`: look at what arrived, and train anew only when it should."""

from __future__ import annotations

import argparse
import time

from noria.cli.options import add_directory, add_wait
from noria.cli.run import flow_ready, show_nodes

_CALLED = 15


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("update", help="evaluate the champion on what arrived; train anew if it should")
    add_directory(parser)
    add_wait(parser)


def run(args: argparse.Namespace) -> int:
    """Check what can be checked, then run the flow; 0 unless a person has to look (15) or it failed."""
    from flows.command import ready_to_run

    started = time.monotonic()
    workspace = flow_ready(args.directory)
    show_nodes()
    with ready_to_run(workspace):
        from flows.update import evaluate_and_update

        state = evaluate_and_update(str(workspace.root), wait_s=args.wait_s, return_state=True)
        action = state.result()
    print(f"{state.name}: {state.message}")
    print(f"done in {time.monotonic() - started:.1f} s")
    return _CALLED if action == "call" else 0
