"""Which opinions on answers become labelled rows: rules against mistakes, and against people who mean harm.

Everything here is a pure function of what was said and what is known, so that asked again it decides the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from noria.config import FeedbackConfig

Refusal = tuple[str, str]
"""The rule, and a sentence for people."""
Heard = tuple[int, int]
"""Of how many labelled rows somebody spoke, and how many of these were contradicted."""


@dataclass(frozen=True)
class Opinion:
    """What somebody says is right for a request.

    Attributes
    ----------
    name:
        The feedback's id.
    client:
        A pseudonym; the empty one stands for all of whom nothing is known.
    key:
        What makes two requests the same one (`duplicate_key` of the scenario).
    label:
        What is right.
    """

    name: str
    client: str
    key: str
    label: str


@dataclass(frozen=True)
class Known:
    """What is known before anything is decided.

    Attributes
    ----------
    truth:
        Of labelled rows of the source, key to label; of the keys that have one label alone.
    earlier:
        Of rows that feedback became before, key to label.
    labels:
        All that there are; None where answers are no classes.
    today:
        Rows that each client's feedback became within a day.
    room:
        Rows that feedback may become before it is too large a share.
    heard:
        By client, of how many labelled rows it spoke before, and how many of these it contradicted.
    """

    truth: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[str, str] = field(default_factory=dict)
    labels: AbstractSet[str] | None = None
    today: Mapping[str, int] = field(default_factory=dict)
    room: int = 0
    heard: Mapping[str, Heard] = field(default_factory=dict)


@dataclass(frozen=True)
class Decided:
    """What became of opinions: those that are in neither say what was known or said already; `heard` as in `Known`."""

    accepted: tuple[Opinion, ...] = ()
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    heard: Mapping[str, Heard] = field(default_factory=dict)


def decide(opinions: Sequence[Opinion], *, known: Known, config: FeedbackConfig) -> Decided:
    """Accept or refuse opinions, oldest first: by their labels, their clients, each other, and how many they are."""
    decided, left = Decided(heard=_heard(opinions, known)), list(opinions)
    for rule in (_unknown_labels, _distrusted_clients, _contradictions, _disagreements):
        refused = rule(left, known, config)
        decided = replace(decided, refused={**decided.refused, **refused})
        left = [each for each in left if each.name not in refused]
    said = {**known.truth, **known.earlier}
    taken, refused = Counter(known.today), dict(decided.refused)
    accepted: list[Opinion] = []
    for each in left:
        if each.key in said:
            continue
        if taken[each.client] >= config.max_client_rows:
            reason = f"more than {config.max_client_rows:,} rows of one client in a day (feedback.max_client_rows)"
            refused[each.name] = "client_cap", reason
        elif len(accepted) >= known.room:
            reason = f"feedback is {config.max_share:.0%} of the source's rows already (feedback.max_share)"
            refused[each.name] = "too_large_a_share", reason
        else:
            accepted.append(each)
            taken[each.client] += 1
            said[each.key] = each.label
    return replace(decided, accepted=tuple(accepted), refused=refused)


def add_heard(each: Iterable[Mapping[str, Heard]]) -> dict[str, Heard]:
    """Together."""
    checked, wrong = Counter[str](), Counter[str]()
    for heard in each:
        for client, (spoke_of, contradicted) in heard.items():
            checked[client] += spoke_of
            wrong[client] += contradicted
    return {client: (count, wrong[client]) for client, count in sorted(checked.items())}


def _heard(opinions: Iterable[Opinion], known: Known) -> dict[str, Heard]:
    spoke = [each for each in opinions if each.key in known.truth and _is_label(each, known)]
    return add_heard({each.client: (1, int(known.truth[each.key] != each.label))} for each in spoke)


def _is_label(opinion: Opinion, known: Known) -> bool:
    return known.labels is None or opinion.label in known.labels


def _unknown_labels(opinions: Sequence[Opinion], known: Known, config: FeedbackConfig) -> dict[str, Refusal]:
    expected = ", ".join(sorted(known.labels or ())[:20])
    return {
        each.name: ("unknown_label", f"`{each.label[:60]}` is none of {expected}")
        for each in opinions
        if not _is_label(each, known)
    }


def _distrusted_clients(opinions: Sequence[Opinion], known: Known, config: FeedbackConfig) -> dict[str, Refusal]:
    """A client most of whose opinions on labelled rows are wrong is not believed in the others.

    By what it says now, and by that with all it said before: neither many small lies help, nor a good name.
    """
    now = _heard(opinions, known)
    why = {
        client: f"its client contradicts {wrong:,} of the {checked:,} labelled rows it speaks of"
        for heard in (now, add_heard([known.heard, now]))
        for client, (checked, wrong) in heard.items()
        if wrong >= config.min_contradictions and wrong > config.max_contradictions * checked
    }
    return {each.name: ("distrusted_client", why[each.client]) for each in opinions if each.client in why}


def _contradictions(opinions: Sequence[Opinion], known: Known, config: FeedbackConfig) -> dict[str, Refusal]:
    """In the training data the two would be a conflict, and both would be lost."""
    return {
        each.name: ("contradicts_row", f"the source says `{known.truth[each.key][:60]}`, not `{each.label[:60]}`")
        for each in opinions
        if known.truth.get(each.key, each.label) != each.label
    }


def _disagreements(opinions: Sequence[Opinion], known: Known, config: FeedbackConfig) -> dict[str, Refusal]:
    """Of opinions on one request that contradict each other none is believed."""
    labels = defaultdict[str, set[str]](set)
    for key, label in known.earlier.items():
        labels[key].add(label)
    for each in opinions:
        labels[each.key].add(each.label)
    return {
        each.name: ("disagreement", f"of one request it is said: {_some(labels[each.key])}")
        for each in opinions
        if len(labels[each.key]) > 1
    }


def _some(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label[:60]}`" for label in sorted(labels)[:5])
