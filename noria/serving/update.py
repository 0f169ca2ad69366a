"""Evaluate and update: what becomes of the canary, then of the challenger, carried out on the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from noria.config import DeployConfig, EvaluateConfig, UpdateConfig
from noria.evaluation.inference import num_cores
from noria.scenarios.base import Row
from noria.serving.bundle import open_bundle
from noria.serving.consent import Consent
from noria.serving.contest import Decision, Verdict, already_live, contest, was_taken_back
from noria.serving.journal import EventKind
from noria.serving.pointer import Canary, Mode, Production
from noria.serving.predictor import Predictor
from noria.serving.store import ModelStore
from noria.serving.trial_verdict import TrialVerdict, is_news, judge_trial

logger = logging.getLogger(__name__)

_OF_A_TRIAL: Mapping[str, Decision] = {"promote": "promote", "withdraw": "keep", "go on": "canary"}


def update_production(
    store: ModelStore,
    challenger: str,
    rows: Sequence[Row],
    *,
    deploy: DeployConfig,
    config: UpdateConfig,
    evaluate: EvaluateConfig,
    seed: int,
    consent: Consent | None = None,
) -> Verdict:
    """Judge the canary that stands, if one does; then the published version `challenger` against what is live.

    A better challenger goes live, or is tried on requests first where `deploy` says so. Either is one swap of the
    pointer, the last thing that happens: whatever fails before leaves the champion live. To repeat it repeats no
    change. Verdicts on a version that is live or tried already, or was taken back, are not journaled. Where
    `update.approval` is required, nothing comes to the clients without a person's `consent` to this challenger.

    Raises
    ------
    StoreError
        When the challenger is not published, the observations can't be read, or another promotion came in between.
    BundleError
        When either model is damaged.
    """
    judged, judging = judge_canary(store, deploy=deploy, config=config), Judging(config, evaluate, seed, consent)
    if judged is None:
        return _update(store, challenger, rows, store.settled(), deploy=deploy, judging=judging)
    if judged.challenger == challenger and judged.decision == "promote":
        return judged
    verdict = _update(store, challenger, rows, store.settled(), deploy=deploy, judging=judging)
    return replace(verdict, trial=judged.trial)


def judge_canary(store: ModelStore, *, deploy: DeployConfig, config: UpdateConfig) -> Verdict | None:
    """Judge the canary that stands by what the servers counted, and carry it out; None where none stands.

    promote, keep (it was withdrawn), or canary (it goes on).

    Raises
    ------
    StoreError, BundleError
        As `update_production`.
    """
    before = store.settled()
    if before is None or before.canary is None:
        return None
    canary = before.canary
    trial = judge_trial(canary, store.observed(canary), champion=before.version, deploy=deploy, config=config)
    _carry_out(store, canary, trial, over=before, deploy=deploy)
    return Verdict(
        _OF_A_TRIAL[trial.decision], trial.reasons, challenger=canary.version, champion=before.version, trial=trial
    )


def nothing_is_tried(live: Production | None) -> Verdict:
    """What is to be said where no canary stands."""
    version = live.version if live else ""
    return Verdict("keep", ("nothing is tried beside what is live",), challenger=version, champion=version or None)


def _carry_out(
    store: ModelStore, canary: Canary, trial: TrialVerdict, *, over: Production, deploy: DeployConfig
) -> None:
    reason, details = f"as a {canary.mode}: {'; '.join(trial.reasons)}", {"trial": asdict(trial)}
    if trial.decision == "promote":
        store.promote(canary.version, reason=reason, over=over, details=details)
    elif trial.decision == "withdraw":
        store.withdraw(reason=reason, over=over, details=details)
    elif trial.is_overdue:
        logger.warning("the %s %s is overdue: %s", canary.mode, canary.version, trial.reasons[-1])
        if is_news(canary, store.journal.last("overdue"), deploy=deploy):
            store.journal.record("overdue", canary.version, reason=reason, details=details)


def propose(
    store: ModelStore,
    challenger: str,
    rows: Sequence[Row],
    *,
    config: UpdateConfig,
    evaluate: EvaluateConfig,
    seed: int,
) -> Verdict:
    """What `update_production` would decide of the challenger, did nobody have to approve; nothing changes.

    Raises
    ------
    StoreError, BundleError
        As `update_production`.
    """
    live = store.settled()
    return _judge(store, challenger, rows, live, judging=Judging(config, evaluate, seed, None))


@dataclass(frozen=True)
class Judging:
    """By what a challenger is judged."""

    config: UpdateConfig
    evaluate: EvaluateConfig
    seed: int
    consent: Consent | None


def _judge(
    store: ModelStore, challenger: str, rows: Sequence[Row], live: Production | None, *, judging: Judging
) -> Verdict:
    if live is not None and (known := _known(store, challenger, live)) is not None:
        return known
    new = _load(store, challenger)
    old = _load(store, live.version, signed=False) if live else None  # it is only compared with
    config, evaluate, earlier = judging.config, judging.evaluate, store.journal.events()
    return contest(new, old, rows, config=config, evaluate=evaluate, seed=judging.seed, earlier=earlier)


def _update(
    store: ModelStore,
    challenger: str,
    rows: Sequence[Row],
    live: Production | None,
    *,
    deploy: DeployConfig,
    judging: Judging,
) -> Verdict:
    verdict = _judge(store, challenger, rows, live, judging=judging)
    if verdict.gain is None and verdict.decision != "inconclusive":
        return verdict  # it needed no contest, and is no news
    if verdict.decision == "promote" and judging.config.approval == "required":
        verdict = _with_consent(verdict, judging.consent)
    if verdict.decision == "promote" and live is not None and (way := _way(deploy)) is not None:
        return _try_out(store, verdict, *way, over=live)
    reason = "; ".join(verdict.reasons)
    if verdict.decision == "promote":
        store.promote(challenger, reason=reason, over=live, details=verdict_json(verdict))
    else:
        event: EventKind = "kept" if verdict.decision == "keep" else "inconclusive"
        store.journal.record(event, challenger, reason=reason, details=verdict_json(verdict))
    return verdict


def _with_consent(verdict: Verdict, consent: Consent | None) -> Verdict:
    """A verdict to promote, as far as a person agrees: refused is keep, unanswered is inconclusive."""
    by_hand = f"`noria promote {verdict.challenger} --reason …` makes it live by hand"
    if consent is None or consent.version != verdict.challenger or not consent.answered:
        waited = consent.reason if consent and consent.version == verdict.challenger else "`noria update` asks for it"
        reason = f"but nobody approved it (`update.approval`): {waited}; {by_hand}"
        return replace(verdict, decision="inconclusive", reasons=(*verdict.reasons, reason))
    if not consent.approved:
        return replace(
            verdict, decision="keep", reasons=(*verdict.reasons, f"but it was not approved: {consent.reason}")
        )
    return replace(verdict, reasons=(*verdict.reasons, f"approved: {consent.reason}"))


def _known(store: ModelStore, challenger: str, live: Production) -> Verdict | None:
    """What is to be said of a challenger that needs no contest."""
    if live.version == challenger:
        return already_live(challenger)
    if live.canary is not None and live.canary.version == challenger:
        reason = f"{challenger} is the {live.canary.mode} already, since {live.canary.since[:10]}, and goes on"
        return Verdict("canary", (reason,), challenger=challenger, champion=live.version)
    taken_back = store.journal.taken_back(challenger)
    return was_taken_back(challenger, live.version, taken_back) if taken_back else None


def _way(deploy: DeployConfig) -> tuple[Mode, float] | None:
    """How a better challenger is tried, if at all."""
    if deploy.canary:
        return "canary", deploy.canary
    return ("shadow", deploy.shadow) if deploy.shadow else None


def _try_out(store: ModelStore, verdict: Verdict, mode: Mode, share: float, *, over: Production) -> Verdict:
    answers = "answers" if mode == "canary" else "answers unseen"
    how = f"before it goes live, it {answers} {share:.1%} of the requests (`deploy.{mode}`)"
    instead = (f"it takes the place of the {over.canary.mode} {over.canary.version}",) if over.canary else ()
    tried = replace(verdict, decision="canary", reasons=(*verdict.reasons, how, *instead))
    reason, details = "; ".join(tried.reasons), verdict_json(tried)
    store.try_out(verdict.challenger, mode=mode, share=share, reason=reason, over=over, details=details)
    return tried


def verdict_json(verdict: Verdict) -> Mapping[str, object]:
    """The verdict as plain values, for a journal or a file."""
    return asdict(verdict)


def _load(store: ModelStore, version: str, *, signed: bool = True) -> Predictor:
    return Predictor(open_bundle(store.fetch(version, signed=signed).path), workers=num_cores())
