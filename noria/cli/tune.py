"""`noria tune`: search for better parameters; the result is a diff of params.yaml."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from noria.cli.options import add_directory, add_json, print_json
from noria.errors import ConfigError

if TYPE_CHECKING:
    from noria.tuning.report import Summary


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("tune", help="search for better parameters; the result is a diff of params.yaml")
    add_directory(parser)
    parser.add_argument("--trials", type=_count, metavar="N", help="trainings in all (default: tune.trials)")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after so long (default: tune.minutes)")
    parser.add_argument("--parallel", type=_count, metavar="N", help="trainings at once (default: tune.parallel)")
    parser.add_argument("--apply", action="store_true", help="write the best parameters into params.yaml")
    parser.add_argument(
        "--wait-s", type=float, default=3600.0, metavar="S", help="how long to wait for a run here (default: 3600)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check what can be checked, then run the flow."""
    from flows.command import ready_to_run
    from noria.artifacts import read_artifact
    from noria.tuning.space import read_space
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    read_space(workspace.config, workspace.params)
    read_artifact(workspace.splits, verify=False)
    with ready_to_run(workspace):
        from flows.tune import tune

        summary = tune(str(workspace.root), args.trials, args.minutes, args.parallel, args.wait_s)
    return _end(summary, workspace.params, args)


def _end(summary: Summary, params: Path, args: argparse.Namespace) -> int:
    """Apply and show what was found; an error only where a diff was to be applied and there can be none."""
    if args.apply and summary.diff:
        from noria.tuning.edit import write_params

        write_params(params, summary.proposed)
    if args.json:
        from noria.tuning.report import as_json

        print_json({**as_json(summary), "applied": bool(args.apply and summary.diff)})
    else:
        _show(summary, applied=args.apply)
    return ConfigError.exit_code if args.apply and summary.refused else 0


def _show(summary: Summary, *, applied: bool) -> None:
    from noria.tuning.report import trials_table, verdict

    print(trials_table(summary.trials))
    print()
    print(verdict(summary))
    if summary.refused:
        print(summary.refused)
    if summary.diff:
        print()
        print(summary.diff, end="")
        print()
        print(
            "params.yaml is changed" if applied else "`noria tune --apply` writes this; `noria run` then trains with it"
        )


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value
