"""`noria metrics`: what Prometheus reads of runs, data and champions."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("metrics", help="tell Prometheus of runs, data and champions")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=9464, help="port to listen on; 0 takes a free one (default: 9464)")
    parser.add_argument("--once", action="store_true", help="print them and end")
    parser.add_argument(
        "-C",
        dest="directories",
        action="append",
        metavar="DIR",
        help="a workspace (default: here); several are told of",
    )


def run(args: argparse.Namespace) -> int:
    """Print them, or answer until interrupted."""
    from prometheus_client import generate_latest, start_http_server

    from flows.metrics import runs_metrics
    from noria.workspace import Workspace

    registry = runs_metrics([Workspace.at(directory) for directory in args.directories or ["."]])
    if args.once:
        print(generate_latest(registry).decode(), end="")
        return 0
    server, thread = start_http_server(args.port, addr=args.host, registry=registry)
    print(f"http://{args.host}:{server.server_port}/metrics", flush=True)
    thread.join()
    return 0
