"""`noria verify`: recompute every digest; fail on the first difference."""

from __future__ import annotations

import argparse

from noria.cli.options import add_directory, add_json, print_json


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("verify", help="recompute every digest: workspace, DVC cache, model store")
    add_directory(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Count what is as it should be; what isn't is an error."""
    from noria.serving.store import ModelStore
    from noria.verify import verify_artifacts, verify_cache
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    store = ModelStore(workspace.store, name=workspace.config.name, cache=workspace.store_cache)
    counts = {
        "artifacts": sum(1 for _ in verify_artifacts(workspace)),
        "cache_files": sum(1 for _ in verify_cache(workspace)),
        "versions": len([store.fetch(version) for version in store.versions()]),
        "checkpoints": len([store.checkpoints.fetch(digest) for digest in store.checkpoints.digests()]),
    }
    if args.json:
        print_json({"verified": counts})
    else:
        print(
            f"verified: {counts['artifacts']} artifacts, {counts['cache_files']} files of DVC's cache, "
            f"{counts['versions']} versions and {counts['checkpoints']} checkpoints in {workspace.store}"
        )
    return 0
