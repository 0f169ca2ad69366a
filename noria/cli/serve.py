"""`noria serve`: answer requests with the live model."""

from __future__ import annotations

import argparse

from noria.cli.options import add_directory


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("serve", help="answer requests with the live model")
    parser.add_argument("--host", help="address to listen on (default: serve.host in params.yaml)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (default: serve.port)")
    parser.add_argument("--version", metavar="VERSION", help="serve this published version instead of the live one")
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Load, listen, answer until interrupted."""
    from noria.cli.model import live_version
    from noria.serving.app import create_app
    from noria.serving.bundle import open_bundle
    from noria.serving.predictor import Predictor
    from noria.serving.server import listen, serve_app
    from noria.serving.store import store_of
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    given = {"host": args.host, "port": args.port}
    config = workspace.config.serve.model_copy(update={k: v for k, v in given.items() if v is not None})
    store = store_of(workspace)
    version = args.version or live_version(store).version
    predictor = Predictor(open_bundle(store.fetch(version).path), threads=config.threads)
    listener = listen(config)
    host, port = listener.getsockname()[:2]
    print(f"{workspace.config.name} {version}: http://{host}:{port}/predict, documented at /docs", flush=True)
    serve_app(create_app(predictor, config=config), listener)
    return 0
