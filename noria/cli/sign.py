"""`noria sign`: vouch for a published version."""

from __future__ import annotations

import argparse
from pathlib import Path

from noria.cli.options import add_directory


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("sign", help="sign a published version")
    parser.add_argument("version", metavar="VERSION", nargs="?", help="of those in the store (default: what is live)")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="PRIVATE.pem", help="an Ed25519 key without password"
    )
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Verify the version, then put the signature beside it."""
    from noria.cli.model import live_version
    from noria.serving.store import store_of
    from noria.workspace import Workspace

    store = store_of(Workspace.at(args.directory))
    version = args.version or live_version(store).version
    store.sign(version, args.key)
    print(f"{version} is signed; `noria verify --key PUBLIC.pem` checks it")
    return 0
