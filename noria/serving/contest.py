"""Champion against challenger: on the same rows, through the same runtime, with a paired bootstrap.

**Fairness.** Both answer today's validation rows. A row's side depends on its content and on `split`
alone and never changes as data grows (`noria.data.split`), so neither model was trained on a row that
judges here, however much later, and on however much more data, the challenger was trained. Where
`split` itself was changed since the champion, only the rows judge that it would have held out too.

**Reuse.** Every verdict by the same rows is one more chance to be promoted by luck: the intervals widen with each
(`noria.serving.reuse`), until more rows come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from noria.config import EvaluateConfig, UpdateConfig
from noria.data.sides import group_columns, group_of, in_validation
from noria.evaluation.bootstrap import Estimate, paired_difference
from noria.evaluation.judged import Judged
from noria.evaluation.latency import measure_latency
from noria.evaluation.metrics import main_metric, value
from noria.evaluation.slices import SliceScore, slice_differences
from noria.scenarios.base import Row
from noria.serving.bundle import Bundle
from noria.serving.journal import Event
from noria.serving.predictor import Predictor
from noria.serving.reuse import Use, use_of
from noria.serving.trial_verdict import TrialVerdict

Decision = Literal["promote", "canary", "keep", "inconclusive"]
NO_MODEL = "none: a trivial answer"
_LATENCY_REPEATS = 50
_DRAWS_BEYOND = 5
"""Resamples behind each end of an interval, at least: of fewer, it swings."""
_MOST_RESAMPLES = 50_000


@dataclass(frozen=True)
class Verdict:
    """What is to happen to the challenger, and why.

    Attributes
    ----------
    decision:
        "promote", "canary" (it is better, and is tried on requests first), "keep" (the champion stays) or
        "inconclusive" (it stays, for want of evidence).
    reasons:
        In words.
    challenger, champion:
        Versions; champion is None for the first model, which is measured against a trivial answer.
    metric, challenger_metric, champion_metric:
        The main metric and both values.
    gain:
        The difference with its paired interval; None when nothing was compared.
    slices:
        The same per slice.
    latency_ratio:
        Challenger's median over the champion's, for one row; None without a champion.
    size_ratio:
        Bytes of the challenger's graph over the champion's; None without a champion.
    rows:
        Rows that judged.
    use, rows_sketch:
        How many verdicts these rows have given with this one, and which they are (`noria.serving.reuse`).
    trial:
        What was decided, before all this, of the canary that stood beside the champion.
    """

    decision: Decision
    reasons: tuple[str, ...]
    challenger: str
    champion: str | None = None
    metric: str = ""
    challenger_metric: float | None = None
    champion_metric: float | None = None
    gain: Estimate | None = None
    slices: tuple[SliceScore, ...] = ()
    latency_ratio: float | None = None
    size_ratio: float | None = None
    rows: int = 0
    use: int = 0
    rows_sketch: tuple[str, ...] = ()
    trial: TrialVerdict | None = None


def already_live(version: str) -> Verdict:
    """The challenger is the champion."""
    return Verdict("keep", (f"{version} is already live",), challenger=version, champion=version)


def was_taken_back(version: str, champion: str, event: Event) -> Verdict:
    """The challenger came to the clients and was taken back: people, or requests, knew what these rows don't."""
    what = "rolled back" if event.kind == "rolled-back" else "withdrawn as a canary"
    reason = (
        f"{version} was {what} on {event.time[:10]} ({event.reason}); "
        f"`noria promote {version} --reason …` makes it live by hand"
    )
    return Verdict("keep", (reason,), challenger=version, champion=champion)


def contest(
    challenger: Predictor,
    champion: Predictor | None,
    rows: Sequence[Row],
    *,
    config: UpdateConfig,
    evaluate: EvaluateConfig,
    seed: int,
    earlier: Iterable[Event] = (),
) -> Verdict:
    """Judge both on `rows`, after `earlier` verdicts. Without a champion, the challenger must beat a trivial answer.

    With one, at least `evaluate.min_slice_rows` rows must judge: resamples of a handful show no doubt.
    """
    if champion is not None:
        rows = held_out_by_both(rows, challenger.bundle, champion.bundle)
        if len(rows) < evaluate.min_slice_rows:
            return _too_few(len(rows), challenger.version, champion.version, least=evaluate.min_slice_rows)
    new = _judged(challenger, rows)
    old = _judged(champion, rows) if champion else new.trivially_answered()
    name, metric = main_metric(new)
    rival = champion.version if champion else None
    use = use_of(new.ids, challenger.version, rival, earlier, alpha=1 - evaluate.confidence)
    measured = Verdict(
        "inconclusive",
        (use.reason(1 - evaluate.confidence),) if use.number > 1 else (),
        challenger=challenger.version,
        champion=rival,
        metric=name,
        challenger_metric=value(metric, new),
        champion_metric=value(metric, old),
        gain=paired_difference(metric, new, old, config=_spending(evaluate, use), seed=seed),
        rows=new.num_rows,
        use=use.number,
        rows_sketch=use.sketch,
    )
    if champion is None:
        return decide_first(measured, over=new.trivial_name)
    measured = replace(
        measured,
        slices=tuple(slice_differences(metric, new, old, config=evaluate, seed=seed)),
        latency_ratio=latency_ratio(challenger, champion, rows),
        size_ratio=_size(challenger) / _size(champion),
    )
    return decide(measured, config=config)


def _spending(config: EvaluateConfig, use: Use) -> EvaluateConfig:
    """For the interval that promotes; a slice's keeps its confidence, since a wider one would hide a loss."""
    resamples = min(max(config.resamples, math.ceil(2 * _DRAWS_BEYOND / use.alpha)), _MOST_RESAMPLES)
    return config.model_copy(update={"confidence": 1 - use.alpha, "resamples": resamples})


def held_out_by_both(rows: Sequence[Row], challenger: Bundle, champion: Bundle) -> Sequence[Row]:
    """Of today's validation rows those that the champion's own split held out too: all, unless `split` changed."""
    split = champion.split
    if split == challenger.split:
        return rows
    known = [row for row in rows if row.keys() >= set(group_columns(split))]
    return [row for row in known if in_validation(group_of(row, split), split)]


def _too_few(num_rows: int, challenger: str, champion: str, *, least: int) -> Verdict:
    reason = (
        f"{num_rows} validation rows that neither model was trained on can't judge; "
        f"at least {least} are needed (`evaluate.min_slice_rows`)"
    )
    return Verdict("inconclusive", (reason,), challenger=challenger, champion=champion, rows=num_rows)


def decide(measured: Verdict, *, config: UpdateConfig) -> Verdict:
    """The rule.

    promote: the interval of the gain lies above `min_gain`, no judged slice regresses, and the
    challenger is neither too slow nor too large. keep: the interval lies below, or the gain is bought
    with a slice, with time or with bytes. inconclusive: the interval holds `min_gain`. Reasons that are
    there already (how often these rows were used) stay last.

    A slice regresses when it loses more than `max_slice_drop` and its whole interval is below zero:
    small slices swing by chance.
    """
    assert measured.gain is not None and measured.latency_ratio is not None
    gain = f"{measured.metric} {measured.gain.points()} on {measured.rows:,} rows"
    if measured.gain.high <= config.min_gain:
        return _decided(measured, "keep", f"the challenger is no better: {gain}")
    if measured.gain.low <= config.min_gain:
        reason = f"the rows can't tell them apart: {gain}; more validation rows would narrow the interval"
        return _decided(measured, "inconclusive", reason)
    faults = [
        f"but `{part.name}` loses: {part.estimate.points()} on {part.rows:,} rows"
        for part in measured.slices
        if part.judged and part.estimate.value < -config.max_slice_drop and part.estimate.high < 0
    ]
    if measured.latency_ratio > config.max_latency_ratio:
        faults.append(
            f"but it takes {measured.latency_ratio:.2f} times as long; {config.max_latency_ratio:g} times are allowed"
        )
    if measured.size_ratio is not None and measured.size_ratio > config.max_size_ratio:
        faults.append(
            f"but it is {measured.size_ratio:.2f} times as large; {config.max_size_ratio:g} times are allowed"
        )
    better = f"the challenger is better: {gain}"
    if faults:
        return _decided(measured, "keep", better, *faults)
    return _decided(measured, "promote", better, "no slice regresses, and it is fast and small enough")


def _decided(measured: Verdict, decision: Decision, *reasons: str) -> Verdict:
    return replace(measured, decision=decision, reasons=(*reasons, *measured.reasons))


def decide_first(measured: Verdict, *, over: str) -> Verdict:
    """The first model goes live when it has learned something: it beats an answer that takes no learning."""
    assert measured.gain is not None
    gain = f"{measured.metric} {measured.gain.points()} over {over}, on {measured.rows:,} rows"
    if measured.gain.low > 0:
        return _decided(measured, "promote", f"nothing is live, and it has learned: {gain}")
    return _decided(measured, "keep", f"nothing goes live: it is no better than guessing: {gain}")


def latency_ratio(challenger: Predictor, champion: Predictor, rows: Sequence[Row]) -> float:
    """Median time for one row, tokenizing included, measured here and now, in turn."""
    taken = measure_latency(
        {"challenger": challenger.outputs, "champion": champion.outputs},
        batches=[[rows[i % len(rows)]] for i in range(_LATENCY_REPEATS)],
    )
    return taken["challenger"].p50_ms / max(taken["champion"].p50_ms, 1e-3)


def _size(predictor: Predictor) -> int:
    return predictor.bundle.model.stat().st_size


def _judged(predictor: Predictor, rows: Sequence[Row]) -> Judged:
    return predictor.bundle.scenario.judge(rows, predictor.outputs(rows), predictor.bundle.encoder)
