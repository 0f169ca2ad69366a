"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noria.workspace import Workspace


def add_directory(parser: argparse.ArgumentParser) -> None:
    """-C DIR, as make and git have it."""
    parser.add_argument("-C", dest="directory", default=".", metavar="DIR", help="the workspace (default: here)")


def add_directories(parser: argparse.ArgumentParser, *, together: str) -> None:
    """-C DIR, as often as there are workspaces; `together` says what becomes of several."""
    parser.add_argument(
        "-C",
        dest="directories",
        action="append",
        metavar="DIR",
        help=f"the workspace (default: here); several are {together}",
    )


def named_workspaces(args: argparse.Namespace) -> dict[str, Workspace]:
    """The workspaces of all -C DIR, by the names of their models.

    Raises
    ------
    ConfigError
        When two call their models the same.
    """
    from noria.errors import ConfigError
    from noria.workspace import Workspace

    workspaces = [Workspace.at(directory) for directory in args.directories or ["."]]
    named = {workspace.config.name: workspace for workspace in workspaces}
    if len(named) < len(workspaces):
        names = [workspace.config.name for workspace in workspaces]
        raise ConfigError(
            f"two workspaces call their model `{max(names, key=names.count)}`",
            where="`name` in params.yaml",
            expected="a name of its own for each model",
        )
    return named


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
