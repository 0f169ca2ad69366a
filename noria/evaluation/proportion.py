"""Intervals of shares, and of the difference of two independent estimates."""

from __future__ import annotations

import math
from statistics import NormalDist

from noria.evaluation.bootstrap import Estimate


def wilson_interval(hits: int, total: int, *, confidence: float) -> Estimate:
    """A share with its score interval (Wilson 1927), which stays inside 0 and 1 and holds at few trials.

    Raises
    ------
    ValueError
        Without any trial.
    """
    if total <= 0:
        raise ValueError("a share of nothing has no interval")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = hits / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """`one - other` of independent samples, its interval from the ends of both (Zou & Donner 2008, MOVER)."""
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, low, high)
