"""What becomes of a canary or a shadow: judged by what the servers counted of it and of the champion meanwhile.

See docs/decisions/0018-how-a-canary-is-judged.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from noria.config import DeployConfig, UpdateConfig
from noria.serving.journal import Event
from noria.serving.observations import Observed
from noria.serving.pointer import Canary, Mode
from noria.serving.tally import Tally

SIGNIFICANCE = 0.01
"""Of each test; one in a hundred and not in twenty, since a canary is looked at more than once."""

Decision = Literal["promote", "withdraw", "go on"]


@dataclass(frozen=True)
class Side:
    """What one of the two did; milliseconds and the mean stated confidence are None where there were none."""

    version: str
    requests: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    confidence: float | None
    right: int
    wrong: int


@dataclass(frozen=True)
class TrialVerdict:
    """What is to happen to a canary, and why.

    Attributes
    ----------
    decision:
        "promote", "withdraw" or "go on" (there is too little to say).
    reasons:
        In words.
    mode, share, since:
        How it is tried.
    champion, canary:
        What both did meanwhile, on all servers.
    same_share:
        Of the rows of a shadow, those that it answered as the champion, whatever the scores; None without any.
    num_servers:
        That observed it.
    is_overdue:
        Whether it goes on for longer than `deploy.canary_days`: a person should look.
    """

    decision: Decision
    reasons: tuple[str, ...]
    mode: Mode
    share: float
    since: str
    champion: Side
    canary: Side
    same_share: float | None
    num_servers: int
    is_overdue: bool = False


def judge_trial(
    canary: Canary,
    observed: Observed,
    *,
    champion: str,
    deploy: DeployConfig,
    config: UpdateConfig,
    now: datetime | None = None,
) -> TrialVerdict:
    """The rule.

    withdraw: it fails significantly more often than the champion, people call its answers wrong significantly more
    often, or it is too slow. promote: both have answered `deploy.canary_requests`, and it is none of that.
    Otherwise it goes on. What speaks against it needs no minimum: an exact test holds for few requests, too.
    """
    ours, theirs = observed.challenger, observed.champion
    faults = [*_failures(ours, theirs, canary.mode), *_complaints(ours, theirs)]
    least = ours.answers if canary.mode == "shadow" else min(ours.answers, theirs.answers)
    is_enough = least >= deploy.canary_requests
    if is_enough and canary.mode == "canary":
        faults += _slowness(ours, theirs, max_ratio=config.max_latency_ratio)
    is_overdue = False
    decision: Decision
    if faults:
        decision, reasons = "withdraw", tuple(faults)
    elif is_enough:
        decision, reasons = "promote", (f"it is no worse: {_counts(ours, theirs)}", _beside(ours, theirs, canary.mode))
    else:
        of = f"{least:,} of {deploy.canary_requests:,} answers that are needed (`deploy.canary_requests`)"
        decision, reasons = "go on", (f"too little to say: {of}; {_counts(ours, theirs)}",)
        waits = (now or datetime.now(UTC)) - datetime.fromisoformat(canary.waiting_since)
        if is_overdue := waits > timedelta(days=deploy.canary_days):
            days = f"nothing was decided for {waits / timedelta(days=1):.1f} days (`deploy.canary_days`)"
            reasons += (f"{days}: raise its share, lower the number, or decide by `noria promote` or `noria rollback`",)
    return TrialVerdict(
        decision,
        reasons,
        canary.mode,
        canary.share,
        canary.since,
        champion=side(champion, theirs),
        canary=side(canary.version, ours),
        same_share=_same_share(ours),
        num_servers=observed.num_servers,
        is_overdue=is_overdue,
    )


def is_news(canary: Canary, told: Event | None, *, deploy: DeployConfig, now: datetime | None = None) -> bool:
    """Whether to tell that it is overdue, after it was `told` last of any canary.

    Each time that `deploy.canary_days` are over again, and once a day at most. A canary that takes the place of
    another waits with it, and is no news by itself.
    """
    if told is None or (last := datetime.fromisoformat(told.time)) < datetime.fromisoformat(canary.waiting_since):
        return True
    return (now or datetime.now(UTC)) - last >= timedelta(days=max(deploy.canary_days, 1.0))


def fisher_greater(a: int, n: int, b: int, m: int) -> float:
    """One-sided p of `a` events in n against `b` in m, were both as frequent: Fisher's exact test.

    The chance of at least `a` of the a + b events among those n, all margins given: hypergeometric (Fisher 1935,
    "The logic of inductive inference", Journal of the Royal Statistical Society 98). 1.0 where either is empty.
    """
    if not n or not m or not a:
        return 1.0
    events = a + b
    whole = _log_choose(n + m, events)
    terms = (_log_choose(n, k) + _log_choose(m, events - k) - whole for k in range(a, min(events, n) + 1))
    return min(1.0, math.fsum(map(math.exp, terms)))


def side(version: str, tally: Tally) -> Side:
    """A tally in figures for people."""
    p50_s, p99_s = tally.quantile_s(0.5), tally.quantile_s(0.99)
    return Side(
        version,
        tally.requests,
        tally.errors,
        p50_ms=_ms(p50_s),
        p99_ms=_ms(p99_s),
        confidence=tally.mean_confidence(),
        right=tally.right,
        wrong=tally.wrong,
    )


def _failures(ours: Tally, theirs: Tally, mode: Mode) -> list[str]:
    """A shadow is only asked what the champion has answered: on these, the champion failed never."""
    errors, requests = (0, ours.requests) if mode == "shadow" else (theirs.errors, theirs.requests)
    p = fisher_greater(ours.errors, ours.requests, errors, requests)
    if p >= SIGNIFICANCE:
        return []
    counts = f"{ours.errors:,} of {ours.requests:,} requests, the champion on {errors:,} of {requests:,}"
    return [f"it fails more often: on {counts} ({_test(p)})"]


def _complaints(ours: Tally, theirs: Tally) -> list[str]:
    judged, other = ours.right + ours.wrong, theirs.right + theirs.wrong
    p = fisher_greater(ours.wrong, judged, theirs.wrong, other)
    if p >= SIGNIFICANCE:
        return []
    counts = f"{ours.wrong:,} of {judged:,} answers, of the champion's {theirs.wrong:,} of {other:,}"
    return [f"people call more of its answers wrong: {counts} ({_test(p)})"]


def _slowness(ours: Tally, theirs: Tally, *, max_ratio: float) -> list[str]:
    """By the median; and by more answers than the champion has beyond its own 99th percentile, stretched as allowed."""
    p50_s, other_p50_s, other_p99_s = ours.quantile_s(0.5), theirs.quantile_s(0.5), theirs.quantile_s(0.99)
    assert p50_s and other_p50_s and other_p99_s
    faults = []
    if p50_s > max_ratio * other_p50_s:
        ratio = f"{p50_s / other_p50_s:.2f} times as long in the middle"
        faults.append(f"it takes {ratio}; {max_ratio:g} times are allowed (`update.max_latency_ratio`)")
    slow, other_slow = ours.slower_than(max_ratio * other_p99_s), theirs.slower_than(max_ratio * other_p99_s)
    p = fisher_greater(slow, ours.answers, other_slow, theirs.answers)
    if p < SIGNIFICANCE:
        limit = f"{1_000 * max_ratio * other_p99_s:.0f} ms, {max_ratio:g} times the champion's 99th percentile"
        counts = f"{slow:,} of {ours.answers:,} answers, of the champion's {other_slow:,} of {theirs.answers:,}"
        faults.append(f"more of its answers take longer than {limit}: {counts} ({_test(p)})")
    return faults


def _counts(ours: Tally, theirs: Tally) -> str:
    return (
        f"{ours.errors:,} errors in {ours.requests:,} requests, the champion {theirs.errors:,} in {theirs.requests:,}"
    )


def _beside(ours: Tally, theirs: Tally, mode: Mode) -> str:
    """A shadow works row by row and waits for nobody: its pace is not the champion's."""
    if mode == "shadow":
        return f"{_same_share(ours) or 0:.1%} of its rows were answered as by the champion"
    own, other = side("", ours), side("", theirs)
    return (
        f"half of its answers came within {own.p50_ms:.1f} ms and 99 % within {own.p99_ms:.1f} ms, "
        f"the champion's within {other.p50_ms:.1f} and {other.p99_ms:.1f} ms"
    )


def _same_share(ours: Tally) -> float | None:
    compared = ours.same_rows + ours.other_rows
    return ours.same_rows / compared if compared else None


def _test(p: float) -> str:
    return f"Fisher's exact test, p = {p:.2g}"


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1_000 * seconds, 3)


def _log_choose(n: int, k: int) -> float:
    return -math.inf if k < 0 or k > n else math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
