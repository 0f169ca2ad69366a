"""The verdict of the update node for people: in Markdown, for the run's page."""

from __future__ import annotations

from noria.serving.contest import NO_MODEL, Verdict
from noria.serving.trial_verdict import Side, TrialVerdict


def verdict_markdown(verdict: Verdict) -> str:
    """The verdict for the run's page."""
    lines = [f"**{verdict.decision}**: {'; '.join(verdict.reasons)}.", ""]
    if verdict.trial is not None:
        lines = [*_trial_lines(verdict.trial), "", *lines]
    if verdict.gain is None:
        return "\n".join(lines)
    lines += [f"| | version | {verdict.metric} |", "|---|---|---|"]
    lines += [f"| challenger | `{verdict.challenger}` | {verdict.challenger_metric:.4f} |"]
    lines += [
        f"| champion | {f'`{verdict.champion}`' if verdict.champion else NO_MODEL} | {verdict.champion_metric:.4f} |"
    ]
    lines += [
        "",
        "| where | rows | gain |",
        "|---|---|---|",
        f"| everywhere | {verdict.rows:,} | {verdict.gain.points()} |",
    ]
    lines += [
        f"| {part.name} | {part.rows:,} | {part.estimate.points()}{'' if part.judged else ' (too few rows to judge)'} |"
        for part in verdict.slices
    ]
    if verdict.latency_ratio is not None:
        lines += ["", f"It takes {verdict.latency_ratio:.2f} times as long as the champion for one row."]
    if verdict.size_ratio is not None:
        lines += ["", f"Its graph has {verdict.size_ratio:.2f} times as many bytes."]
    return "\n".join(lines) + "\n"


def _trial_lines(trial: TrialVerdict) -> list[str]:
    """Of the canary: what was decided, and the figures of both."""
    overdue = " **Overdue: somebody should look.**" if trial.is_overdue else ""
    lines = [
        f"The {trial.mode} `{trial.canary.version}` ({trial.share:.1%} of the requests since {trial.since[:16]}Z): "
        f"**{trial.decision}**: {'; '.join(trial.reasons)}.{overdue}",
        "",
        "| | version | requests | errors | p50 | p99 | confidence | called right / wrong |",
        "|---|---|---|---|---|---|---|---|",
        _row(trial.mode, trial.canary),
        _row("champion", trial.champion),
    ]
    if trial.same_share is not None:
        lines += ["", f"{trial.same_share:.1%} of its rows were answered as by the champion."]
    return lines


def _row(role: str, side: Side) -> str:
    p50, p99 = ("–" if ms is None else f"{ms:.1f} ms" for ms in (side.p50_ms, side.p99_ms))
    confidence = "–" if side.confidence is None else f"{side.confidence:.2f}"
    return (
        f"| {role} | `{side.version}` | {side.requests:,} | {side.errors:,} | {p50} | {p99} | {confidence} "
        f"| {side.right:,} / {side.wrong:,} |"
    )
