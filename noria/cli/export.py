"""`noria export`: a published version in the layout of another server."""

from __future__ import annotations

import argparse
from pathlib import Path

from noria.cli.options import add_directory


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("export", help="write the live model in the layout of another server")
    parser.add_argument("--layout", choices=["triton"], required=True, help="triton: a model repository")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the repository")
    parser.add_argument("--name", help="the model's name there (default: name in params.yaml)")
    parser.add_argument("--version", metavar="VERSION", help="this published version instead of the live one")
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Fetch, verify, write."""
    from noria.cli.model import live_version
    from noria.serving.bundle import open_bundle
    from noria.serving.store import store_of
    from noria.serving.triton import write_triton
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    store = store_of(workspace)
    version = args.version or live_version(store).version
    written = write_triton(
        open_bundle(store.fetch(version).path),
        args.output,
        name=args.name or workspace.config.name,
        max_batch_rows=workspace.config.serve.max_batch_rows,
        max_delay_ms=workspace.config.serve.max_delay_ms,
    )
    print(f"{version}: {written}")
    return 0
