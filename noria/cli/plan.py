"""`noria plan`: which stages will run, and why; runs nothing."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from noria.cli.options import add_directory, add_json, print_json

if TYPE_CHECKING:
    from flows.plan import Plan


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("plan", help="say which stages will run and why; run nothing")
    add_directory(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from flows.plan import make_plan
    from noria.workspace import Workspace

    plan = make_plan(Workspace.at(args.directory))
    if args.json:
        print_json(asdict(plan))
    else:
        _show(plan)
    return 0


def _show(plan: Plan) -> None:
    for stage in plan.stages:
        expected = "" if stage.expected_s is None else f"about {stage.expected_s / 60:.1f} min"
        print(f"{stage.name:<12} will run  {expected}".rstrip())
        for reason in stage.reasons:
            print(f"    {reason.say()}")
    if not plan.stages:
        print("nothing changed: every stage is up to date")
        return
    print(f"{len(plan.up_to_date)} up to date: {', '.join(plan.up_to_date) or 'none'}")
    if plan.expected_s is not None:
        print(f"expected: {plan.expected_s / 60:.1f} min, from the runs before")
