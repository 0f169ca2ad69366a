"""`noria status`: runs, stages, rows, the champion, the server, the schedule and the last update."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from noria.cli.options import add_directory, add_json, print_json

if TYPE_CHECKING:
    from flows.status import Champion, StageStatus, Status, Tried
    from flows.surroundings import Schedule, Seen
    from noria.serving.trial_verdict import Side


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "status", help="show the last run, the stages, the rows, the champion, the server and the schedule"
    )
    add_directory(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print where the workspace stands."""
    from flows.status import read_status
    from noria.workspace import Workspace

    status = read_status(Workspace.at(args.directory))
    if args.json:
        print_json(asdict(status))
    else:
        _show(status)
    return 0


def _show(status: Status) -> None:
    print(f"{status.workspace} ({status.scenario})")
    print(f"held by: {status.running or 'nobody'}; last run: {_run(status)}")
    if status.run is not None and status.run.error:
        print(f"  {status.run.error}")
    for stage in status.stages:
        print(f"  {stage.stage:<12} {_state(stage)}")
    for kind, ledger in status.ledger.items():
        print(
            f"  rows of {kind:<14} {ledger.rows_in:>9,} in  {ledger.rows_out:>9,} out  "
            f"{ledger.quarantined:>9,} quarantined  {ledger.added:>9,} added"
        )
    print(f"champion: {_champion(status.champion)}")
    if status.tried is not None:
        _show_tried(status.tried)
    print(f"server: {status.server.url}: {status.server.said}")
    print(f"next run: {_schedule(status.schedule)}")
    _show_seen(status.seen)


def _run(status: Status) -> str:
    run = status.run
    if run is None:
        return status.last_run or "none"
    return f"{run.flow} {run.state}, {run.ended or f'began {run.started}'} ({run.url or run.run})"


def _schedule(schedule: Schedule) -> str:
    waiting = f"; {schedule.late} late, {schedule.pending} pending" if schedule.late or schedule.pending else ""
    if schedule.next_run is None:
        return f"{schedule.said}{waiting}"
    return f"{schedule.next_flow}, {schedule.next_run}{waiting}"


def _show_seen(seen: Seen) -> None:
    if seen.decision is not None:
        print(f"last update: {seen.decision} ({seen.decided}): {'; '.join(seen.reasons)}")
    if seen.metric is not None and seen.metric.get("value") is not None:
        print(f"  {seen.metric['name']} {seen.metric['value']:.4g} on fresh rows, {seen.metric['baseline']:.4g} before")
    if seen.decision is not None:
        print(f"  drifted: {', '.join(seen.drifted) or 'nothing'}")
    if (told := seen.feedback) is not None:
        print(f"  feedback: {told['right']:,} right, {told['wrong']:,} wrong, {told['rows']:,} rows to learn from")
    if seen.objects_refused:
        print(f"refused objects: {seen.objects_refused:,} (sources/intake/refused.yaml)")


def _state(stage: StageStatus) -> str:
    now = "stale     " if stage.stale else "up to date"
    return f"{now}  {stage.last.state} {stage.last.ended}, {stage.last.seconds:.1f} s" if stage.last else now.rstrip()


def _champion(champion: Champion | None) -> str:
    if champion is None:
        return "none yet"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in champion.metrics.items())
    return f"{champion.version}, live for {champion.age_s / 3600:.1f} h ({champion.reason}); {metrics}"


def _show_tried(tried: Tried) -> None:
    print(
        f"{tried.mode}: {tried.version}, on {tried.share:.1%} of the requests for {tried.age_s / 3600:.1f} h; "
        f"{tried.answers_needed:,} answers are needed; counted by servers: {tried.num_servers}"
    )
    for role, side in ((tried.mode, tried.canary), ("champion", tried.champion)):
        print(f"  {role:<9} {_side(side)}")


def _side(side: Side) -> str:
    pace = "" if side.p50_ms is None else f", p50 {side.p50_ms:.1f} ms, p99 {side.p99_ms:.1f} ms"
    judged = f", called right {side.right:,} and wrong {side.wrong:,} times" if side.right + side.wrong else ""
    return f"{side.requests:,} requests, {side.errors:,} errors{pace}{judged}"
