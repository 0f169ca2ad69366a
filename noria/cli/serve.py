"""`noria serve`: answer requests with the live model of one workspace or of several."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from noria.cli.options import add_directories, named_workspaces

if TYPE_CHECKING:
    from noria.config import ServeConfig
    from noria.serving.predictor import Predictor
    from noria.serving.store import ModelStore
    from noria.workspace import Workspace


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("serve", help="answer requests with the live model")
    parser.add_argument("--host", help="address to listen on (default: serve.host in params.yaml)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (default: serve.port)")
    parser.add_argument("--version", metavar="VERSION", help="serve this published version instead of the live one")
    add_directories(parser, together="served together, as `serve` of the first says")


def run(args: argparse.Namespace) -> int:
    """Load, listen, answer until interrupted."""
    from noria.serving.address import url_of
    from noria.serving.app import create_app
    from noria.serving.clients import clients_key
    from noria.serving.server import listen, serve_app

    workspaces = named_workspaces(args)
    first_workspace = next(iter(workspaces.values()))
    given = {"host": args.host, "port": args.port}
    config = first_workspace.config.serve.model_copy(update={k: v for k, v in given.items() if v is not None})
    stores = _stores(workspaces, version=args.version)
    models = {name: _load(store, version=args.version, config=config) for name, store in stores.items()}
    key = clients_key(first_workspace.clients_key, os.environ)
    app = create_app(models, config=config, followed={} if args.version else stores, clients_key=key)
    listener = listen(config)
    url = url_of(*listener.getsockname()[:2])
    (name, first), *others = models.items()
    print(f"{name} {first.version}: {url}/predict, documented at /docs", flush=True)
    for name, predictor in others:
        print(f"{name} {predictor.version}: {url}/models/{name}/predict", flush=True)
    serve_app(app, listener, drain_s=config.drain_s)
    return 0


def _stores(workspaces: Mapping[str, Workspace], *, version: str | None) -> dict[str, ModelStore]:
    """The store of each workspace, by the name of its model."""
    from noria.errors import ConfigError
    from noria.serving.store import store_of

    if version is not None and len(workspaces) > 1:
        raise ConfigError("--version is of one model", expected="one -C DIR with --version")
    return {name: store_of(workspace) for name, workspace in workspaces.items()}


def _load(store: ModelStore, *, version: str | None, config: ServeConfig) -> Predictor:
    """What is live, or the version that was asked for, once it has shown that it answers."""
    from noria.cli.model import live_version
    from noria.serving.following import load_proven

    chosen = version or live_version(store).version
    return load_proven(store, chosen, threads=config.threads, device=config.device)
