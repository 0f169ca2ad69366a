"""Options that several commands share."""

from __future__ import annotations

import argparse
import json


def add_directory(parser: argparse.ArgumentParser) -> None:
    """-C DIR, as make and git have it."""
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json, for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_wait(parser: argparse.ArgumentParser) -> None:
    """--wait-s S, for whoever holds the workspace."""
    parser.add_argument(
        "--wait-s", type=float, default=3600.0, metavar="S", help="how long to wait for another run (default: 3600)"
    )


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
