"""`noria`: one file a command; what a command needs is imported when it runs, so that --help is instant."""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from noria.errors import NoriaError

COMMANDS = (
    "init",
    "run",
    "update",
    "up",
    "plan",
    "status",
    "report",
    "reports",
    "verify",
    "predict",
    "explain",
    "serve",
    "export",
    "sign",
    "promote",
    "rollback",
    "quarantine",
    "tune",
    "doctor",
)
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is a message on stderr and its exit code."""
    atexit.register(gc.freeze)  # else the interpreter looks at all that was imported once more: up to a second
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("noria").setLevel(logging.INFO)
    try:
        status = importlib.import_module(f"noria.cli.{args.command}").run(args)
        sys.stdout.flush()
    except NoriaError as error:
        print(f"noria {args.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"noria {args.command}: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough: `noria … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
        return _BROKEN_PIPE
    assert isinstance(status, int)
    return status


def build_parser() -> argparse.ArgumentParser:
    """The tree of commands."""
    parser = argparse.ArgumentParser(prog="noria", description="Continuous training for Transformers, as a DAG.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        importlib.import_module(f"noria.cli.{command}").add_parser(subparsers)
    return parser
