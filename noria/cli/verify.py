"""`noria verify`: recompute every digest; fail on the first difference."""

from __future__ import annotations

import argparse
from pathlib import Path

from noria.cli.options import add_directory, add_json, print_json


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("verify", help="recompute every digest: workspace, DVC cache, model store")
    parser.add_argument("--key", type=Path, metavar="PUBLIC.pem", help="the live version must be signed by its owner")
    add_directory(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Count what is as it should be; what isn't is an error."""
    from noria.cli.model import live_version
    from noria.serving.store import store_of
    from noria.verify import verify_artifacts, verify_cache
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    store = store_of(workspace)
    counts = {
        "artifacts": sum(1 for _ in verify_artifacts(workspace)),
        "cache_files": sum(1 for _ in verify_cache(workspace)),
        "versions": len([store.fetch(version, signed=False) for version in store.versions()]),
        "checkpoints": len([store.checkpoints.fetch(digest) for digest in store.checkpoints.names()]),
    }
    if args.key is not None:
        store.check_signature(live_version(store).version, args.key)
        counts["signatures"] = 1
    if args.json:
        print_json({"verified": counts})
    else:
        print(
            f"verified: {counts['artifacts']} artifacts, {counts['cache_files']} files of DVC's cache, "
            f"{counts['versions']} versions and {counts['checkpoints']} checkpoints in {workspace.store}"
            + ("; the live version is signed by the key's owner" if args.key else "")
        )
    return 0
