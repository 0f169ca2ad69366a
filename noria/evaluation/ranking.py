"""Where the true next item stands among all items of the catalogue: full ranking, nothing is sampled.

Sampled candidates rank models otherwise than all items do (Krichene & Rendle 2020). Shapes: N rows, V items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from noria.data.item_encoder import ItemEncoder
from noria.evaluation.inference import LOGITS
from noria.evaluation.judged import Judged, ids_of, slices_of
from noria.evaluation.metrics import Metric
from noria.scenarios.base import Row, Tensors

POPULARITY = "always the most popular items"
_CUTOFF = 10
_SHOWN_ITEMS = 10
_LENGTHS = ((1, 19), (20, 49), (50, 99), (100, 199), (200, None))
_POPULAR_SHARE = 0.1


def _ndcg(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Mean of 1 / log2(1 + rank) of the one right item, 0 behind place 10 (Järvelin & Kekäläinen 2002)."""
    rank_N = judged.outputs[:, 0]
    return _mean(np.where(rank_N <= _CUTOFF, 1 / np.log2(1 + rank_N), 0.0), weights_RN)


def _hit_rate(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of rows whose right item is among the first ten."""
    return _mean(judged.outputs[:, 0] <= _CUTOFF, weights_RN)


def _reciprocal_rank(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Mean of 1 / rank over the whole ranking."""
    return _mean(1 / judged.outputs[:, 0], weights_RN)


RANKING: Mapping[str, Metric] = {"ndcg@10": _ndcg, "hr@10": _hit_rate, "mrr": _reciprocal_rank}


def judge_ranks(rows: Sequence[Row], outputs: Sequence[Tensors], encoder: ItemEncoder) -> Judged:
    """The rank of each row's `item` among what may be recommended after its `history`.

    An item that the model does not know, or that may not be recommended (it is in the history, and
    `model.history.repeats` is off), has rank infinity: it would never be shown.
    """
    scores = [output[LOGITS] for output in outputs]
    shown = [
        [encoder.items[place] for place in best(score, _SHOWN_ITEMS, hidden=hidden_of(row, encoder))]
        for row, score in zip(rows, scores, strict=True)
    ]
    return Judged(
        ids=ids_of(rows),
        targets=np.array([encoder.numbers.get(str(row["item"]), -1) for row in rows], np.int64),
        outputs=_ranks(rows, scores, encoder),
        labels=(),
        slices=slices_of(rows, partial(_slices, popularity=_popularity(encoder))),
        metrics=RANKING,
        trivial=_ranks(rows, [encoder.counts] * len(rows), encoder),
        trivial_name=POPULARITY,
        columns={
            "user": [row["user"] for row in rows],
            "item": [row["item"] for row in rows],
            "history_length": [len(history_of(row)) for row in rows],
            "rank": _ranks(rows, scores, encoder)[:, 0].tolist(),
            "recommended": shown,
        },
    )


def history_of(row: Row) -> Sequence[object]:
    """The items of a row's or a request's history, oldest first."""
    history = row.get("history")
    return history if isinstance(history, Sequence) else ()


def hidden_of(row: Row, encoder: ItemEncoder) -> np.ndarray:
    """Places in the catalogue of the items that may not be recommended, int64."""
    include = row.get("include_seen")
    seen = () if (encoder.repeats if include is None else include) else encoder.known(history_of(row))
    return np.array(seen, dtype=np.int64)


def best(scores_V: np.ndarray, num: int, *, hidden: np.ndarray) -> np.ndarray:
    """Places of the `num` highest scores but the hidden ones, best first; equal scores in the catalogue's order."""
    allowed = np.ones(len(scores_V), bool)
    allowed[hidden] = False
    places = np.flatnonzero(allowed)
    found: np.ndarray = places[np.argsort(-scores_V[places], kind="stable")[:num]]
    return found


def rank_of(target: int, scores_V: np.ndarray, *, hidden: np.ndarray) -> float:
    """Where `best` would list the target, from 1; infinity where it never would."""
    if target < 0 or target in hidden:
        return float("inf")
    ahead = (scores_V > scores_V[target]) | ((scores_V == scores_V[target]) & (np.arange(len(scores_V)) < target))
    ahead[hidden] = False
    return 1.0 + int(ahead.sum())


def length_groups(lengths_N: np.ndarray) -> Mapping[str, np.ndarray]:
    """Rows by the length of their history, bool (N,) each."""
    return {
        f"{low}–{high} events" if high else f"{low} events and more": (lengths_N >= low)
        & (lengths_N <= (high or np.inf))
        for low, high in _LENGTHS
    }


def _ranks(rows: Sequence[Row], scores: Sequence[np.ndarray], encoder: ItemEncoder) -> np.ndarray:
    """float64 (N, 1)."""
    ranks = [
        rank_of(encoder.numbers.get(str(row["item"]), -1), score, hidden=hidden_of(row, encoder))
        for row, score in zip(rows, scores, strict=True)
    ]
    return np.array(ranks, np.float64)[:, None]


def _popularity(encoder: ItemEncoder) -> Callable[[Row], str]:
    """What to call a row by how often its item occurs in training."""
    order = np.argsort(-encoder.counts, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))

    def name(row: Row) -> str:
        target = encoder.numbers.get(str(row["item"]), -1)
        if target < 0:
            return "unknown item"
        share = place[target] / len(order)
        return (
            "popular item (first 10 %)"
            if share < _POPULAR_SHARE
            else ("known item (10–50 %)" if share < 0.5 else "rare item (last half)")
        )

    return name


def length_slices(row: Row) -> Mapping[str, bool]:
    """The groups of rows by length of history, and whether this row is in each."""
    groups = length_groups(np.array([len(history_of(row))]))
    return {name: bool(member[0]) for name, member in groups.items()}


def _slices(row: Row, *, popularity: Callable[[Row], str]) -> Mapping[str, bool]:
    return {**length_slices(row), popularity(row): True}


def _mean(values_N: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    return np.asarray(weights_RN @ values_N.astype(np.float64) / weights_RN.sum(axis=1))
