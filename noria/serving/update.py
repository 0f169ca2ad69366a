"""Evaluate and update: the contest's verdict, carried out on the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from noria.config import EvaluateConfig, UpdateConfig
from noria.evaluation.inference import num_cores
from noria.scenarios.base import Row
from noria.serving.bundle import open_bundle
from noria.serving.contest import NO_MODEL, Verdict, already_live, contest, was_rolled_back
from noria.serving.journal import EventKind
from noria.serving.predictor import Predictor
from noria.serving.store import ModelStore


def update_production(
    store: ModelStore,
    challenger: str,
    rows: Sequence[Row],
    *,
    config: UpdateConfig,
    evaluate: EvaluateConfig,
    seed: int,
) -> Verdict:
    """Judge the published version `challenger` against what is live; promote it when it is better.

    Promotion is one swap of the pointer, the last thing that happens: whatever fails before leaves
    the champion live. Verdicts on a version that is live already, or was rolled back, are not journaled.

    Raises
    ------
    StoreError
        When the challenger is not published, or another promotion came in between.
    BundleError
        When either model is damaged.
    """
    live = store.production()
    if live is not None and live.version == challenger:
        return already_live(challenger)
    if live is not None and (taken_back := store.journal.taken_back(challenger)):
        return was_rolled_back(challenger, live.version, taken_back)
    new = _load(store, challenger)
    old = _load(store, live.version, signed=False) if live else None  # it is only compared with
    verdict = contest(new, old, rows, config=config, evaluate=evaluate, seed=seed)
    reason = "; ".join(verdict.reasons)
    if verdict.decision == "promote":
        store.promote(challenger, reason=reason, over=live, details=verdict_json(verdict))
    else:
        event: EventKind = "kept" if verdict.decision == "keep" else "inconclusive"
        store.journal.record(event, challenger, reason=reason, details=verdict_json(verdict))
    return verdict


def verdict_json(verdict: Verdict) -> Mapping[str, object]:
    """The verdict as plain values, for a journal or a file."""
    return asdict(verdict)


def verdict_markdown(verdict: Verdict) -> str:
    """The verdict for the run's page."""
    lines = [f"**{verdict.decision}**: {'; '.join(verdict.reasons)}.", ""]
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
    return "\n".join(lines) + "\n"


def _load(store: ModelStore, version: str, *, signed: bool = True) -> Predictor:
    return Predictor(open_bundle(store.fetch(version, signed=signed).path), workers=num_cores())
