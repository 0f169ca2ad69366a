"""`noria rollback`: withdraw the canary, or make the version live that was live before."""

from __future__ import annotations

import argparse

from noria.cli.options import add_directory


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("rollback", help="withdraw the canary; without one, go back to the version before")
    parser.add_argument("--reason", default="by hand", help="why; it goes into the journal (default: by hand)")
    parser.add_argument(
        "--canary", action="store_true", help="withdraw the canary or shadow, and leave what is live in any case"
    )
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Take back what clients saw last: a canary, or else (a shadow they don't see) what is live."""
    from noria.cli.model import live_version, tell_of_change
    from noria.serving.store import store_of
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    store = store_of(workspace)
    before = live_version(store)
    canary = before.canary
    if canary is not None and (args.canary or canary.mode == "canary"):
        store.withdraw(reason=args.reason, over=before)
        print(f"the {canary.mode} {canary.version} is withdrawn; {before.version} is live, as before")
    elif args.canary:
        print(f"there is no canary; {before.version} is live")
    else:
        live = store.rollback(reason=args.reason)
        print(f"{live.version} is live again in place of {before.version}")
    tell_of_change(workspace, before, reason=args.reason)
    return 0
