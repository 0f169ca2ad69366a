"""`noria reports`: pages of runs and searches for a browser, metrics of runs, data and champions for Prometheus."""

from __future__ import annotations

import argparse
import os
import socket
from urllib.parse import urlsplit

from noria.cli.options import add_directories, named_workspaces

DEFAULT_PORT = 9464


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("reports", help="show the reports of runs in a browser, and runs to Prometheus")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"port to listen on; 0: a free one (default: {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--name",
        dest="names",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that it may be called by, beside its address, localhost and that of NORIA_REPORTS_URL; * is any",
    )
    parser.add_argument("--metrics", action="store_true", help="print what Prometheus would read, and end")
    add_directories(parser, together="shown together")


def run(args: argparse.Namespace) -> int:
    """Answer until interrupted, or print the metrics."""
    from prometheus_client import generate_latest

    from flows.metrics import runs_metrics
    from flows.reports import create_app, serve_reports
    from noria.serving.address import Names, is_wildcard, listen, url_of

    workspaces = named_workspaces(args)
    if args.metrics:
        print(generate_latest(runs_metrics(list(workspaces.values()))).decode(), end="")
        return 0
    own = [socket.gethostname()] if is_wildcard(args.host) else []
    app = create_app(workspaces, names=Names.of(args.host, [_public_name(), *own, *args.names]))
    listener = listen(args.host, args.port, command="noria reports")
    print(f"{', '.join(workspaces)}: {url_of(*listener.getsockname()[:2])}/", flush=True)
    serve_reports(app, listener)
    return 0


def _public_name() -> str:
    """The host of the address at which browsers find us; empty where nobody has said it."""
    from noria.errors import ConfigError
    from noria.report.links import REPORTS_URL

    url = os.environ.get(REPORTS_URL, "")
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:  # brackets that are not those of an IPv6 address
        name = ""
    if url and not name:
        raise ConfigError(
            "no address: links from runs to their reports would lead nowhere",
            where=f"{REPORTS_URL}={url}",
            expected="a URL as browsers have it, for example https://reports.example.com",
            next_step="mend it in the environment of the worker, too, or unset it",
        )
    return name
