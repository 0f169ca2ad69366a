"""Which features of arrivals have drifted from the champion's baseline: surely, and by so much that it matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from noria.config import DriftConfig
from noria.monitoring.features import LABEL_PREFIX, Columns
from noria.monitoring.representation import Vectors
from noria.monitoring.two_samples import (
    Difference,
    adjust,
    bin_categories,
    bin_numbers,
    compare_counts,
    compare_vectors,
    total_variation,
)

REPRESENTATION = "representation"


@dataclass(frozen=True)
class Feature:
    """One comparison.

    Attributes
    ----------
    name, kind:
        Which feature, and what it is of.
    statistic, value:
        How different: population stability index, or energy coefficient.
    p_value:
        For all features at once (Holm).
    threshold:
        The value from which on it counts: what matters, or what chance alone can bring, whichever is more.
    rows:
        New rows that were compared.
    drifted, text:
        The verdict, also in words.
    jensen_shannon:
        Divergence in bits; None of vectors.
    """

    name: str
    kind: Literal["number", "category", "vector"]
    statistic: Literal["psi", "energy"]
    value: float
    p_value: float
    threshold: float
    rows: int
    drifted: bool
    text: str
    jensen_shannon: float | None = None


@dataclass(frozen=True)
class Sample:
    """What is compared: features of rows, of answers, and vectors (N, D). Each may be of other rows."""

    features: Columns
    answers: Columns
    vectors: Vectors


@dataclass(frozen=True)
class LabelShift:
    """Total variation between the labels of training and of fresh rows, 0 to 1, and what chance alone can bring."""

    value: float
    by_chance: float


def find_drift(old: Sample, new: Sample, *, config: DriftConfig, seed: int) -> tuple[Feature, ...]:
    """Every feature that both samples have, compared; the surest first."""
    compared = [*_compare_columns(old.features, new.features, config=config, seed=seed)]
    compared += _compare_columns(old.answers, new.answers, config=config, seed=seed)
    if len(new.vectors) and REPRESENTATION not in config.ignore and old.vectors.shape[1] == new.vectors.shape[1]:
        found = compare_vectors(old.vectors, new.vectors, alpha=config.alpha, seed=seed)
        compared.append(_feature(REPRESENTATION, "vector", found, len(new.vectors), config=config))
    adjusted = adjust([feature.p_value for feature in compared])
    judged = [_judged(replace(one, p_value=p), config) for one, p in zip(compared, adjusted, strict=True)]
    return tuple(sorted(judged, key=lambda feature: (not feature.drifted, -feature.value / feature.threshold)))


def _compare_columns(old: Columns, new: Columns, *, config: DriftConfig, seed: int) -> Iterator[Feature]:
    for name, values in old.numbers.items():
        if name in new.numbers and name not in config.ignore and len(new.numbers[name]) and len(values):
            counts = bin_numbers(values, new.numbers[name])
            found = compare_counts(*counts, alpha=config.alpha, seed=seed)
            yield _feature(name, "number", found, len(new.numbers[name]), config=config)
    for name, names in old.categories.items():
        if name in new.categories and name not in config.ignore and len(new.categories[name]) and len(names):
            counts = bin_categories(names, new.categories[name])
            found = compare_counts(*counts, alpha=config.alpha, seed=seed)
            yield _feature(name, "category", found, len(new.categories[name]), config=config)


def label_shift(old: Columns, new: Columns, *, config: DriftConfig, seed: int) -> LabelShift | None:
    """How far the labels moved; None where answers are no classes, or fewer than `min_rows` rows came.

    By chance: the quantile of total variation over divisions of the pooled labels, exact at every size.
    """
    for name, names in old.categories.items():
        if name.startswith(LABEL_PREFIX) and name in new.categories:
            if min(len(names), len(new.categories[name])) < config.min_rows:
                return None
            old_B, new_B = bin_categories(names, new.categories[name])
            pooled = old_B + new_B
            generator = np.random.default_rng(seed)
            drawn = generator.multivariate_hypergeometric(pooled, int(new_B.sum()), size=999, method="marginals")
            by_chance = np.quantile([total_variation(pooled - one, one) for one in drawn], 1 - config.alpha)
            return LabelShift(total_variation(old_B, new_B), float(by_chance))
    return None


def _feature(
    name: str, kind: Literal["number", "category", "vector"], found: Difference, rows: int, *, config: DriftConfig
) -> Feature:
    statistic: Literal["psi", "energy"] = "energy" if kind == "vector" else "psi"
    least = config.min_energy if kind == "vector" else config.min_psi
    return Feature(
        name,
        kind,
        statistic,
        found.value,
        found.p_value,
        threshold=max(least, found.by_chance, 1e-9),
        rows=rows,
        drifted=False,
        text="",
        jensen_shannon=found.jensen_shannon,
    )


def _judged(feature: Feature, config: DriftConfig) -> Feature:
    """The verdict on a feature whose p-value is adjusted."""
    figures = f"{feature.statistic} {feature.value:.3f} of {feature.threshold:.3f}, p {feature.p_value:.2g}"
    if feature.rows < config.min_rows:
        return replace(feature, text=f"not judged: {feature.rows} rows, {config.min_rows} are needed ({figures})")
    sure, large = feature.p_value < config.alpha, feature.value >= feature.threshold
    if sure and large:
        return replace(feature, drifted=True, text=f"drifted: {figures}, on {feature.rows:,} rows")
    why = "surely, but too little to matter" if sure else "nothing that chance would not bring"
    return replace(feature, text=f"{why}: {figures}, on {feature.rows:,} rows")
