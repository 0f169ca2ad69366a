"""What to do about what arrived: nothing, train anew, or stop and call a person. A pure rule, its reasons in words.

The order is the meaning: what a person must look at comes first, then whether anything came that no training has
seen (or training again would give what it gave), then the triggers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from noria.config import StopConfig, TriggersConfig, UpdateConfig
from noria.monitoring.monitor import Monitoring
from noria.serving.journal import Event

Action = Literal["none", "retrain", "call"]
_TRIES = ("kept", "inconclusive", "withdrawn")


@dataclass(frozen=True)
class Arrived:
    """Objects that came since the last look, and those of them that the gate refused as a whole.

    `listed` were not judged: nothing is known to compare them with, and the gate of the first training judges them.
    """

    objects: int = 0
    refused: int = 0
    listed: int = 0

    @property
    def refused_share(self) -> float:
        return self.refused / self.objects if self.objects else 0.0


@dataclass(frozen=True)
class Situation:
    """All that a decision rests on.

    Attributes
    ----------
    monitoring, arrived:
        How the champion does on what arrived, and how much that is.
    age_days:
        Of the champion, since it went live; None while nothing is.
    tries:
        Trainings in a row, since the last promotion, without a better model.
    unjudged:
        The version that was staged last, where the run that made it was killed before it was judged.
    unfinished:
        Whether the source was read, and no run came so far as to stage a version.
    """

    monitoring: Monitoring
    arrived: Arrived
    age_days: float | None
    tries: int
    unjudged: str | None = None
    unfinished: bool = False


@dataclass(frozen=True)
class Trigger:
    """One rule, held against the figures; `threshold` is None where it is switched off."""

    name: str
    value: float
    threshold: float | None
    fired: bool
    text: str


@dataclass(frozen=True)
class Decision:
    """What is to be done, why, and every rule that was asked."""

    action: Action
    reasons: tuple[str, ...]
    triggers: tuple[Trigger, ...]


def tries_since_promotion(events: Sequence[Event]) -> int:
    """Versions that were no better, since the last that went live and stayed, by the journal's events, oldest first.

    A canary that stands says nothing yet. One that was withdrawn was no better, nor was what was rolled back.
    """
    tried: set[str] = set()
    taken_back: set[object] = set()
    for event in reversed(events):
        if event.kind == "rolled-back":
            taken_back.add(event.details.get("over"))
        elif event.kind == "promoted" and event.version not in taken_back:
            break
        elif event.kind == "promoted":
            taken_back.remove(event.version)
            tried.add(event.version)
        elif event.kind in _TRIES:
            tried.add(event.version)
    return len(tried)


def staged_and_not_judged(events: Sequence[Event]) -> str | None:
    """The version that was staged last, if no verdict on it followed, by the journal's events, oldest first."""
    staged = next((event.version for event in reversed(events) if event.kind == "staged"), None)
    judged = {event.version for event in events if event.kind in (*_TRIES, "promoted", "canary")}
    return None if staged in judged else staged


def decide(situation: Situation, *, config: UpdateConfig) -> Decision:
    """The rule."""
    stops, calls = _stops(situation, config.stop), _triggers(situation, config.triggers)
    rules, found = (*stops, *calls), situation.monitoring
    if fired := [rule.text for rule in stops if rule.fired]:
        return Decision("call", tuple(fired), rules)
    if found.version is None and situation.unfinished:
        reason = "nothing is live yet: the run that read the source ended before it was done"
        return Decision("retrain", (reason,), rules)
    if situation.unjudged is not None:
        reason = f"{situation.unjudged} was staged and never judged: its run ended before; what is done is not repeated"
        return Decision("retrain", (reason,), rules)
    if found.version is None and (found.untried or situation.arrived.listed):
        return Decision("retrain", ("nothing is live yet: the first training",), rules)
    if not found.untried:
        tried = found.tried or found.version
        seen = f"nothing came that version {tried} was not trained on" if tried else "nothing is live, and nothing came"
        known = f" ({found.rows:,} rows that the champion does not know)" if found.rows else ""
        return Decision("none", (seen + known,), rules)
    if fired := [rule.text for rule in calls if rule.fired]:
        return Decision("retrain", tuple(fired), rules)
    return Decision("none", (f"{found.untried:,} new rows, and no trigger fired", *(r.text for r in calls)), rules)


def _stops(situation: Situation, config: StopConfig) -> list[Trigger]:
    found, arrived = situation.monitoring, situation.arrived
    metric, shift = found.metric, found.label_shift
    lost = metric.drop_low if metric and metric.judged else 0.0
    moved, by_chance = (shift.value, shift.by_chance) if shift else (0.0, 0.0)
    share = arrived.refused_share
    return [
        _rule(
            "collapse", lost, config.metric_drop, f"the champion lost at least {lost:.1%} on fresh rows", unit="{:.0%}"
        ),
        _rule(
            "refused",
            share,
            config.refused_share,
            f"the gate refused {arrived.refused:,} of {arrived.objects:,} new objects",
            unit="{:.0%}",
        ),
        _rule(
            "label shift",
            moved,
            config.label_shift,
            f"{moved:.0%} of the fresh rows have other labels than training rows would ({by_chance:.0%} by chance)",
            unit="{:.0%}",
            given=moved > by_chance,
        ),
        _rule(
            "tries",
            situation.tries,
            config.tries,
            f"{situation.tries} trainings in a row gave no better model",
            given=found.untried > 0,
        ),
    ]


def _triggers(situation: Situation, config: TriggersConfig) -> list[Trigger]:
    found = situation.monitoring
    age = situation.age_days or 0.0
    drifted = [feature.name for feature in found.features if feature.drifted]
    return [
        _metric_drop(found, config.metric_drop),
        _rule(
            "drift",
            len(drifted),
            config.drift,
            f"{len(drifted)} of {len(found.features)} features drifted"
            + (f": {', '.join(drifted)}" if drifted else ""),
        ),
        _rule("new rows", found.untried, config.new_rows, f"{found.untried:,} rows came that no training has seen"),
        _rule("age", age, config.age_days, f"the champion is {age:.1f} days old", unit="{:g} days"),
    ]


def _metric_drop(found: Monitoring, threshold: float | None) -> Trigger:
    metric = found.metric
    if metric is None:
        return _rule("metric drop", 0.0, threshold, "no fresh row has judged the champion", unit="{:.1%}")
    text = (
        f"{metric.name} is {metric.value:.4f} on {metric.rows:,} fresh rows, {metric.baseline:.4f} on validation rows: "
        f"{-metric.drop:+.2%} ({-metric.drop_high:+.2%} to {-metric.drop_low:+.2%})"
    )
    if not metric.judged:
        text += ", too few rows to judge"
    return _rule(
        "metric drop", metric.drop, threshold, text, unit="{:.1%}", given=metric.judged and metric.drop_low > 0
    )


def _rule(
    name: str, value: float, threshold: float | None, text: str, *, unit: str = "{:g}", given: bool = True
) -> Trigger:
    """Fires when it is not switched off, what else it asks is `given`, and the value reaches the threshold."""
    if threshold is None:
        return Trigger(name, value, None, False, f"{text} (switched off)")
    fired = given and value > 0 and value >= threshold
    return Trigger(name, value, threshold, fired, f"{text} (counts from {unit.format(threshold)} on)")
