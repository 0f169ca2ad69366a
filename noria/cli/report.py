"""`noria report`: the last run on one page."""

from __future__ import annotations

import argparse

from noria.cli.options import add_directory


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("report", help="write the last run's report, one HTML page, and say where it is")
    add_directory(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page, print its path."""
    from noria.workspace import Workspace
    from tasks.report import last_run, write_run_report

    workspace = Workspace.at(args.directory)
    print(write_run_report(workspace, last_run(workspace)))
    return 0
