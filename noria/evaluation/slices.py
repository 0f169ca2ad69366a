"""A metric per slice: where a model is worse than its average says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from noria.config import EvaluateConfig
from noria.evaluation.bootstrap import Estimate, interval, paired_difference
from noria.evaluation.judged import Judged
from noria.evaluation.metrics import Metric


@dataclass(frozen=True)
class SliceScore:
    """A slice's metric, or the difference of two models on it.

    Attributes
    ----------
    name:
        The scenario's name for it.
    rows:
        How many rows it has.
    estimate:
        The metric or the difference, with its interval.
    judged:
        Whether it is large enough (`evaluate.min_slice_rows`) to decide anything.
    """

    name: str
    rows: int
    estimate: Estimate
    judged: bool


def slice_scores(metric: Metric, judged: Judged, *, config: EvaluateConfig, seed: int) -> list[SliceScore]:
    """The metric on every slice that has a row."""
    return [
        SliceScore(
            name,
            part.num_rows,
            interval(metric, part, config=config, seed=seed),
            part.num_rows >= config.min_slice_rows,
        )
        for name, part in _parts(judged)
    ]


def slice_differences(
    metric: Metric, challenger: Judged, champion: Judged, *, config: EvaluateConfig, seed: int
) -> list[SliceScore]:
    """`metric(challenger) - metric(champion)` on every slice that has a row."""
    return [
        SliceScore(
            name,
            part.num_rows,
            paired_difference(metric, part, champion.where(challenger.slices[name]), config=config, seed=seed),
            part.num_rows >= config.min_slice_rows,
        )
        for name, part in _parts(challenger)
    ]


def _parts(judged: Judged) -> Iterator[tuple[str, Judged]]:
    for name, member in judged.slices.items():
        if member.any():
            yield name, judged.where(member)
