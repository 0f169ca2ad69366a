"""A budget for judging again and again by the same validation rows: each verdict spends a part of one alpha.

Every contest on the same rows is another chance to be promoted by luck, and challengers are made by whoever saw
earlier verdicts (Dwork et al. 2015, "The reusable holdout"). The k-th contest on (mostly) the same rows may err with
probability alpha * 6 / (pi^2 k^2): together they never exceed alpha (alpha spending without
rewards: Foster & Stine 2008, "Alpha-investing").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from noria.serving.journal import Event

SKETCH = "rows_sketch"
"""The detail of a verdict's event that tells which rows judged."""
_SKETCH_ROWS = 256
_SAME = 0.5
_BEYOND = "g"
"""Behind all hexadecimal digits."""


@dataclass(frozen=True)
class Use:
    """One more verdict by validation rows.

    Attributes
    ----------
    number:
        1 for the first by these rows.
    alpha:
        What this one may spend: the two-sided chance of error of its interval.
    sketch:
        Which rows judge: the smallest hashes of their ids.
    """

    number: int
    alpha: float
    sketch: tuple[str, ...]

    def reason(self, total: float) -> str:
        """For the verdict, in words."""
        return (
            f"use {self.number} of these validation rows: its interval is of {1 - self.alpha:.3%} confidence, so that "
            f"all of them together err with at most {total:g}"
        )


def hashes_of(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """64 bits of each id, uint64 (N,): what rows are recognized and sampled by."""
    digests = b"".join(hashlib.blake2b(row_id.encode(), digest_size=8).digest() for row_id in ids)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def sketch_of(ids: Iterable[str]) -> tuple[str, ...]:
    """The 256 smallest hashes, in hexadecimal: uniform samples, which share what their sets share (Broder 1997)."""
    return tuple(f"{value:016x}" for value in np.sort(hashes_of(ids))[:_SKETCH_ROWS].tolist())


def share_used(now: Sequence[str], before: Sequence[str]) -> float:
    """Estimated share of the rows of the sketch `now` that are among those of `before`.

    Up to the smaller of their largest hashes both sketches are complete.
    """
    ends = [sketch[-1] for sketch in (now, before) if len(sketch) == _SKETCH_ROWS]
    end = min(ends, default=_BEYOND)
    left, right = ({value for value in sketch if value <= end} for sketch in (now, before))
    return len(left & right) / max(len(left), 1)


def use_of(ids: Sequence[str], challenger: str, champion: str | None, earlier: Iterable[Event], *, alpha: float) -> Use:
    """What a verdict on these two by the rows `ids` may spend, after the `earlier` events of the journal.

    An earlier verdict on another pair counts when at least half of these rows judged there. To judge the same pair
    again is no new chance: it gives the same verdict.
    """
    sketch = sketch_of(ids)
    pairs = {
        (event.version, event.details.get("champion"))
        for event in earlier
        if isinstance(used := event.details.get(SKETCH), list) and share_used(sketch, used) >= _SAME
    }
    number = len(pairs - {(challenger, champion)}) + 1
    return Use(number, alpha * 6 / (math.pi**2 * number**2), sketch)
