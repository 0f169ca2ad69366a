"""`noria rollback`: make the version live that was live before."""

from __future__ import annotations

import argparse

from noria.cli.options import add_directory


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("rollback", help="make the version live that was live before")
    parser.add_argument("--reason", default="by hand", help="why; it goes into the journal (default: by hand)")
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Swap the pointer back."""
    from noria.cli.model import live_version
    from noria.serving.store import store_of
    from noria.workspace import Workspace

    store = store_of(Workspace.at(args.directory))
    before = live_version(store)
    live = store.rollback(reason=args.reason)
    print(f"{live.version} is live again in place of {before.version}")
    return 0
