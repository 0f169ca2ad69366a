"""`noria promote`: make a published version live by hand."""

from __future__ import annotations

import argparse

from noria.cli.options import add_directory


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("promote", help="make a published version live")
    parser.add_argument("version", metavar="VERSION", help="12 hexadecimal digits, as in the store")
    parser.add_argument("--reason", required=True, help="why; it goes into the journal")
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Swap the pointer, once the version has loaded and answered."""
    from noria.serving.bundle import open_bundle
    from noria.serving.predictor import Predictor
    from noria.serving.store import store_of
    from noria.workspace import Workspace

    store = store_of(Workspace.at(args.directory))
    predictor = Predictor(open_bundle(store.fetch(args.version).path))
    predictor.answer([predictor.bundle.scenario.example])
    before = store.production()
    live = store.promote(args.version, reason=args.reason, over=before)
    if live == before:
        print(f"{live.version} is already live")
    else:
        print(f"{live.version} is live" + (f", {before.version} was before" if before else ""))
    return 0
