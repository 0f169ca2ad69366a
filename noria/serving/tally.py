"""What one version did with the requests that it was given: counts, which take the same memory however many come."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Self

_LEAST_S = 1e-4
_PER_DECADE = 20
_DECADES = 6
_LATENCIES = _DECADES * _PER_DECADE + 1  # the last is of all that took longer than 100 s
_CONFIDENCES = 20

Answer = Mapping[str, object]


def _none(num_buckets: int) -> list[int]:
    return [0] * num_buckets


@dataclass
class Tally:
    """Counted by the event loop alone.

    Attributes
    ----------
    errors:
        Requests on which the version failed.
    latencies:
        Answered requests by the seconds from their body to their last answer: bucket i ends at 10^(i/20 - 4) s, so
        neighbours are 12 % apart.
    total_s:
        Of all of these.
    confidences:
        Answered rows by the certainty that their answer states, in twentieths; scenarios without have none.
    right, wrong:
        Answers that people called so.
    same_rows, other_rows:
        Of a shadow: rows answered as the champion answered them, whatever the scores, and otherwise.
    dropped:
        Of a shadow: requests that were not given to it, since there was something else to do.
    """

    errors: int = 0
    latencies: list[int] = field(default_factory=lambda: _none(_LATENCIES))
    total_s: float = 0.0
    confidences: list[int] = field(default_factory=lambda: _none(_CONFIDENCES))
    right: int = 0
    wrong: int = 0
    same_rows: int = 0
    other_rows: int = 0
    dropped: int = 0

    @property
    def answers(self) -> int:
        """Requests that were answered."""
        return sum(self.latencies)

    @property
    def requests(self) -> int:
        """Those, and those on which it failed."""
        return self.answers + self.errors

    def answered(self, answers: Sequence[Answer], *, seconds: float) -> None:
        """One more request, with the answers to its rows."""
        self.latencies[_latency_bucket(seconds)] += 1
        self.total_s += seconds
        for answer in answers:
            if (confidence := stated_confidence(answer)) is not None:
                self.confidences[min(int(confidence * _CONFIDENCES), _CONFIDENCES - 1)] += 1

    def compared(self, answers: Sequence[Answer], champions: Sequence[Answer]) -> None:
        """The rows of a shadow beside those that the client got."""
        same = sum(_in_words(own) == _in_words(other) for own, other in zip(answers, champions, strict=True))
        self.same_rows += same
        self.other_rows += len(answers) - same

    def quantile_s(self, share: float) -> float | None:
        """Seconds within which this share of the answers came, on the scale of the buckets; None without answers."""
        total, below = self.answers, 0
        for bucket, count in enumerate(self.latencies):
            if count and below + count >= share * total:
                within = (share * total - below) / count
                return _LEAST_S * 10 ** ((bucket - 1 + within) / _PER_DECADE)
            below += count
        return None

    def slower_than(self, seconds: float) -> int:
        """Answers that took longer, by the bucket."""
        return sum(self.latencies[_latency_bucket(seconds) + 1 :])

    def mean_confidence(self) -> float | None:
        """Of the rows that state one, within a fortieth."""
        total = sum(self.confidences)
        middles = ((i + 0.5) / _CONFIDENCES * count for i, count in enumerate(self.confidences))
        return sum(middles) / total if total else None

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Ends of buckets in seconds, three a decade, each with the answers that took no longer."""
        for bucket in range(_LATENCIES - 1):
            if bucket % _PER_DECADE in (0, 6, 14):  # 1, 2 and 5, nearly
                yield _LEAST_S * 10 ** (bucket / _PER_DECADE), sum(self.latencies[: bucket + 1])

    def __add__(self, other: Self) -> Tally:
        ours, theirs = asdict(self), asdict(other)
        return Tally.of({name: _sum(ours[name], theirs[name]) for name in ours})

    def values(self) -> Mapping[str, object]:
        """As JSON has it: a copy."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Of what `values` said.

        Raises
        ------
        ValueError
            When it is no tally.
        """
        empty = asdict(cls())
        for name in (one.name for one in fields(cls)):
            if not _is_like(values.get(name), empty[name]):
                raise ValueError(f"`{name}` is {str(values.get(name))[:60]}")
        return cls(**{name: values[name] for name in empty})  # type: ignore[arg-type]


def stated_confidence(answer: Answer) -> float | None:
    """How sure an answer says that it is: the probability of its label, its `confidence` or its `score`, in [0, 1]."""
    scores = answer.get("scores")
    if isinstance(scores, Mapping):
        said = scores.get(answer.get("label"))
    else:
        said = answer.get("confidence", answer.get("score"))
    return float(said) if isinstance(said, int | float) and 0 <= said <= 1 else None


def _in_words(value: object) -> object:
    """An answer without its scores, and without the version that gave it: no two models say the same numbers."""
    if isinstance(value, Mapping):
        return {name: _in_words(inner) for name, inner in value.items() if name != "model_version"}
    if isinstance(value, list | tuple):
        return [_in_words(inner) for inner in value]
    return None if isinstance(value, float) else value


def _latency_bucket(seconds: float) -> int:
    bucket = math.ceil(_PER_DECADE * math.log10(max(seconds, _LEAST_S) / _LEAST_S))
    return min(bucket, _LATENCIES - 1)


def _sum(a: object, b: object) -> object:
    if isinstance(a, list) and isinstance(b, list):
        return [x + y for x, y in zip(a, b, strict=True)]
    assert isinstance(a, int | float) and isinstance(b, int | float)
    return a + b


def _is_like(value: object, empty: object) -> bool:
    if isinstance(empty, list):
        return isinstance(value, list) and len(value) == len(empty) and all(_is_like(one, 0) for one in value)
    kinds = (int, float) if isinstance(empty, float) else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
