"""`noria quarantine`: the rows that were refused, why, and what today's rules would say of them."""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from noria.cli.options import add_directory, add_json, print_json

if TYPE_CHECKING:
    from noria.data.quarantine import QuarantinedRow
    from noria.data.replay import Replayed
    from noria.workspace import Workspace

_STAGES = ("ingest", "clean", "split", "arrivals", "feedback")
_REPLAYED = ("ingest", "clean")
_SHOWN_CHARS = 60


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("quarantine", help="list, show and replay the rows that were refused")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="count by stage and rule, then the rows")
    listing.add_argument("--stage", choices=_STAGES, help="only of this stage")
    listing.add_argument("--rule", help="only of this rule")
    listing.add_argument(
        "--limit", type=_count, default=20, metavar="N", help="rows shown (default: 20; 0: counts only)"
    )
    show = actions.add_parser("show", help="everything about one row")
    show.add_argument("id", help="its id, or the beginning of it")
    replay = actions.add_parser("replay", help="say which rows today's rules would let pass; change nothing")
    replay.add_argument("--stage", choices=_REPLAYED, default="clean", help="default: clean")
    for action in (listing, show, replay):
        add_directory(action)
        add_json(action)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of rows")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    from noria.workspace import Workspace

    workspace = Workspace.at(args.directory)
    return {"list": _list, "show": _show, "replay": _replay}[args.action](workspace, args)


def _rows(workspace: Workspace, *, stage: str | None = None, rule: str | None = None) -> Iterator[QuarantinedRow]:
    from noria.data.quarantine import read_quarantine

    for name in (stage,) if stage else _STAGES:
        yield from (row for row in read_quarantine(workspace.quarantine(name)) if rule in (None, row.rule))


def _list(workspace: Workspace, args: argparse.Namespace) -> int:
    counts = Counter((row.stage, row.rule) for row in _rows(workspace, stage=args.stage, rule=args.rule))
    rows = list(itertools.islice(_rows(workspace, stage=args.stage, rule=args.rule), args.limit))
    if args.json:
        by_rule = [{"stage": stage, "rule": rule, "rows": n} for (stage, rule), n in counts.most_common()]
        print_json({"num_rows": counts.total(), "counts": by_rule, "rows": [_plain(row) for row in rows]})
        return 0
    if not counts:
        print("the quarantine is empty" if (args.stage, args.rule) == (None, None) else "no such row is in quarantine")
        return 0
    print(f"{counts.total():,} rows in quarantine")
    for (stage, rule), count in counts.most_common():
        print(f"  {stage:<8} {rule:<22} {count:>9,}")
    if rows:
        print()
    for row in rows:
        print(f"{row.id}  {row.stage}  {row.rule}  {row.origin}  {_preview(row)}")
    if 0 < len(rows) < counts.total():
        print(f"… {counts.total() - len(rows):,} more (--limit {counts.total()}); `noria quarantine show ID`")
    return 0


def _show(workspace: Workspace, args: argparse.Namespace) -> int:
    from noria.errors import ConfigError

    found = [row for row in _rows(workspace) if row.id.startswith(args.id)]
    if not found:
        raise ConfigError(
            f"no row with the id {args.id} is in quarantine",
            where=str(workspace.quarantine("…").parent),
            next_step="`noria quarantine list` names them",
        )
    if args.json:
        print_json([_plain(row) for row in found])
        return 0
    for row in found:
        for name in ("id", "origin", "stage", "rule", "reason", "quarantined_at"):
            print(f"{name + ':':<16}{_printable(getattr(row, name))}")
        for name, value in row.payload.items():
            print(f"  {name + ':':<14}{_printable(str(value))}")
    return 0


def _replay(workspace: Workspace, args: argparse.Namespace) -> int:
    replayed = _replayed(workspace, args.stage)
    num_passing = len(replayed.passing)
    if args.json:
        passing = [row.id for row in replayed.passing]
        print_json({"stage": replayed.stage, "passing": num_passing, "still": replayed.still, "passing_ids": passing})
        return 0
    print(f"{num_passing + sum(replayed.still.values()):,} rows in quarantine of {replayed.stage}")
    print(f"  pass today's rules     {num_passing:>9,}")
    for rule, count in replayed.still.items():
        print(f"  still break {rule:<22}{count:>9,}")
    if num_passing:
        print("`noria run` takes up those that pass: a stage runs again when its rules change.")
    return 0


def _replayed(workspace: Workspace, stage: str) -> Replayed:
    from noria.data.replay import replay_clean, replay_ingest

    quarantine, scratch = workspace.quarantine(stage), workspace.scratch / "replay"
    if stage == "ingest":
        return replay_ingest(
            quarantine, scenario=workspace.scenario, config=workspace.config, base=workspace.root, scratch=scratch
        )
    return replay_clean(
        quarantine,
        preprocessed=workspace.preprocessed,
        verdict=workspace.quality("check"),
        scenario=workspace.scenario,
        config=workspace.config,
        scratch=scratch,
    )


def _plain(row: QuarantinedRow) -> dict[str, object]:
    """A row as any program can read it: broken bytes, which the file keeps, are escapes here."""
    payload = {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.payload.items()
    }
    return {**asdict(row), "payload": payload}


def _preview(row: QuarantinedRow) -> str:
    text = " · ".join(str(value) for value in row.payload.values() if value is not None)
    return _printable(text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…")


def _printable(text: str) -> str:
    """Control characters and broken bytes as escapes, so that a terminal shows them and obeys none."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
