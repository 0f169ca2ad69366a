"""`noria up`: Prefect server, worker, schedules, reports and model server of one workspace, in the foreground."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from noria.cli.options import add_directory
from noria.cli.reports import DEFAULT_PORT

_PREFECT_PORT = 4200


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "up", help="run the local stack: Prefect server, worker, schedules, reports, model server"
    )
    add_directory(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address of the Prefect server and of the reports (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=int, default=_PREFECT_PORT, help="port of the Prefect server; 0: a free one (default: 4200)"
    )
    parser.add_argument("--serve-port", type=int, help="port of the model server; 0: a free one (default: serve.port)")
    parser.add_argument(
        "--reports-port",
        type=int,
        default=DEFAULT_PORT,
        help=f"port of the reports; 0: a free one (default: {DEFAULT_PORT})",
    )


def run(args: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; what was started is ended before this returns."""
    from flows.stack import Addresses, Stack, free_port
    from noria.preflight import check_workspace
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    check_workspace(workspace)
    serve_port = workspace.config.serve.port if args.serve_port is None else args.serve_port
    addresses = Addresses(
        api=os.environ.get("PREFECT_API_URL", "").rstrip("/") or None,
        host=args.host,
        port=args.port or free_port(),
        serve_port=serve_port or free_port(),
        reports_port=args.reports_port or free_port(),
    )
    until = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: until.set())
    Stack(workspace, addresses, say=_say).run(until)
    return 0


def _say(who: str, what: str) -> None:
    sys.stdout.write(f"{who:<7} | {what}\n")
    sys.stdout.flush()
