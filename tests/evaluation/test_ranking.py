"""Ranks among all items, and what may be recommended."""

import numpy as np

from noria.data.item_encoder import START, ItemEncoder
from noria.evaluation.metrics import value
from noria.evaluation.ranking import best, judge_ranks, rank_of

NONE = np.empty(0, np.int64)


def encoder(*, repeats: bool = False, max_events: int = 3) -> ItemEncoder:
    return ItemEncoder(["a", "b", "c", "d"], [5, 1, 3, 2], max_events=max_events, repeats=repeats)


def row(item: str, history: list[str]) -> dict[str, object]:
    return {"id": item, "user": "u", "item": item, "time": 0.0, "history": history}


def test_a_rank_is_the_place_in_the_list_of_the_best_also_among_equal_scores():
    scores = np.random.default_rng(0).integers(0, 5, 50).astype(np.float32)
    hidden = np.array([3, 7])
    listed = best(scores, 50, hidden=hidden).tolist()
    assert [rank_of(place, scores, hidden=hidden) for place in listed] == list(range(1, 49))
    assert rank_of(3, scores, hidden=hidden) == float("inf")


def test_metrics_equal_those_written_from_their_formulas():
    outputs = [{"logits": np.array([4.0, 3.0, 2.0, 1.0], np.float32)}] * 2
    judged = judge_ranks([row("c", []), row("d", ["a", "b"])], outputs, encoder())
    assert judged.outputs[:, 0].tolist() == [3.0, 2.0]  # a and b were seen
    assert np.isclose(value(judged.metrics["ndcg@10"], judged), (1 / np.log2(4) + 1 / np.log2(3)) / 2)
    assert value(judged.metrics["hr@10"], judged) == 1.0
    assert np.isclose(value(judged.metrics["mrr"], judged), (1 / 3 + 1 / 2) / 2)
    assert judged.trivial[:, 0].tolist() == [2.0, 2.0]  # by popularity: a, c, d, b


def test_an_unknown_item_and_a_repeat_that_may_not_be_shown_count_as_missed():
    outputs = [{"logits": np.array([4.0, 3.0, 2.0, 1.0], np.float32)}] * 2
    rows = [row("never seen", ["a"]), row("a", ["a"])]
    judged = judge_ranks(rows, outputs, encoder())
    assert [value(metric, judged) for metric in judged.metrics.values()] == [0.0, 0.0, 0.0]
    assert judge_ranks(rows, outputs, encoder(repeats=True)).outputs[:, 0].tolist() == [float("inf"), 1.0]


def test_a_history_keeps_its_last_known_items_and_a_new_user_has_a_start():
    def ids(*history: str) -> list[int]:
        return encoder().encode({"history": list(history)})["item_ids"].tolist()

    assert ids() == [START]
    assert ids("?", "🎬") == [START]
    assert ids("a", "?", "b") == [START, 2, 3]
    assert ids("a", "b", "c", "d") == [3, 4, 5]
