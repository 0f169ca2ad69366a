"""Which row of a cluster of duplicates is kept, and what happens when their labels disagree.

Shape: A = rows that could be repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


class Fate(IntEnum):
    """What becomes of a row."""

    KEEP = 0
    DUPLICATE = 1
    NEAR_DUPLICATE = 2
    CONFLICT = 3
    REFUSED = 4


@dataclass(frozen=True)
class Settled:
    """A `Fate` for each row, uint8 (A,), and the row that is the reason for it, int64 (A,)."""

    fate: npt.NDArray[np.uint8]
    other: Indices


Policy = Literal["quarantine", "majority", "most_frequent"]


def settle(*, equal: Indices, clusters: Indices, labels: Indices, policy: Policy) -> Settled:
    """Keep the first row of each cluster; with several labels, none (or the majority's first).

    `equal` and `clusters` name, for each row, the first equal row and the first row of its cluster;
    `labels` are codes from 0. A majority is more rows than any other label has;
    `most_frequent` settles a tie by the label that came first.
    """
    winner = _winning_labels(clusters, labels, policy=policy)[clusters]
    other = _first_with_another_label(clusters, labels)
    fate = np.full(len(clusters), Fate.CONFLICT, dtype=np.uint8)
    won = np.flatnonzero(labels == winner)
    kept = np.zeros(len(clusters), dtype=np.int64)
    _, first = np.unique(clusters[won], return_index=True)
    kept[clusters[won[first]]] = won[first]
    other[won] = kept[clusters[won]]
    fate[won] = np.where(equal[won] == equal[other[won]], Fate.DUPLICATE, Fate.NEAR_DUPLICATE)
    fate[won[first]] = Fate.KEEP
    return Settled(fate, other)


def _winning_labels(clusters: Indices, labels: Indices, *, policy: str) -> Indices:
    """By cluster, the label whose first row is kept, or -1 where there is none, int64 (A,)."""
    num_labels = labels.max(initial=0) + 1
    pairs, counts = np.unique(clusters * num_labels + labels, return_counts=True)
    cluster, label = pairs // num_labels, pairs % num_labels
    order = np.lexsort((label, -counts, cluster))  # within a cluster the most frequent label first, then the earliest
    cluster, label, counts = cluster[order], label[order], counts[order]
    _, first = np.unique(cluster, return_index=True)
    contested = np.zeros(len(cluster), dtype=bool)
    contested[:-1] = cluster[1:] == cluster[:-1]
    if policy == "most_frequent":
        contested[:] = False
    if policy == "majority":
        contested[:-1] &= counts[1:] == counts[:-1]
    winner = np.full(len(clusters), -1, dtype=np.int64)
    winner[cluster[first]] = np.where(contested[first], -1, label[first])
    return winner


def _first_with_another_label(clusters: Indices, labels: Indices) -> Indices:
    """For each row the first row of its cluster that contradicts it, or itself, int64 (A,)."""
    rows = np.arange(len(clusters))
    against = labels != labels[clusters]  # rows that contradict the first row of their cluster
    opponent = rows.copy()
    named, first = np.unique(clusters[against], return_index=True)
    opponent[named] = rows[against][first]
    return np.where(against, clusters, opponent[clusters])
