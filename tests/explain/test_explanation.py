from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from training_fixtures import tiny_rows

from noria.data.ngrams import fit_ngrams
from noria.data.text_encoder import MASK, normalize
from noria.errors import ConfigError
from noria.explain import load_explainer
from noria.explain.explanation import Explanation
from noria.explain.pieces import ngram_spans
from noria.explain.text_classification import NGRAMS, TRANSFORMER, against_others, explain
from noria.training.checkpoint import Trained

UNKNOWN = "㊋"  # becomes 火, which no review of the tiny set holds


def score_of(trained: Trained, tensors: Mapping[str, torch.Tensor], winner: int) -> float:
    with torch.inference_mode():
        return float(against_others(trained.model(**tensors)[0], winner))


def tensors_of(trained: Trained, text: str) -> dict[str, torch.Tensor]:
    batch = trained.encoder.collate([trained.encoder.encode({"text": text})])
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def extremes(explanation: Explanation, part: str | None = None) -> tuple[int, int]:
    """The tokens that add most and least."""
    values = [token.contribution if part is None else token.parts[part] for token in explanation.tokens]
    return int(np.argmax(values)), int(np.argmin(values))


@pytest.mark.parametrize("text", ["质量很好，值得购买", "物流很慢，质量太差，浪费钱", "Ｇｏｏｄ  好 棒", "火", "  "])
def test_a_score_is_its_base_and_the_contributions_of_its_tokens(tiny: Trained, text: str) -> None:
    found = explain(tiny, {"text": text})
    winner = tiny.encoder.labels.index(found.label)
    assert found.score == pytest.approx(score_of(tiny, tensors_of(tiny, text), winner), abs=1e-4)
    assert abs(found.residual) < 0.01 * max(1.0, abs(found.score))
    assert max(found.scores, key=found.scores.__getitem__) == found.label and sum(
        found.scores.values()
    ) == pytest.approx(1)
    normal = normalize(text)
    assert [token.text for token in found.tokens] == [normal[token.start : token.end] for token in found.tokens]
    assert "".join(token.text for token in found.tokens) == normal.replace(" ", "")


def test_hiding_the_top_token_from_the_transformer_costs_more_than_hiding_the_bottom_one(tiny: Trained) -> None:
    """Nearly always: hiding one token alone is not the path that the gradients are integrated along."""
    lower = []
    for row in tiny_rows(60, seed=5):
        found = explain(tiny, row)
        winner = tiny.encoder.labels.index(found.label)
        after = []
        for place in extremes(found, TRANSFORMER):
            tensors = tensors_of(tiny, str(row["text"]))
            tensors["token_ids"][0, place] = MASK
            after.append(score_of(tiny, tensors, winner))
        lower.append(after[0] < after[1])
    assert np.mean(lower) > 0.9


def test_a_text_without_its_top_token_scores_lower_than_one_without_its_bottom_token(tiny: Trained) -> None:
    lower = []
    for row in tiny_rows(60, seed=6):
        found = explain(tiny, row)
        text, winner = normalize(str(row["text"])), tiny.encoder.labels.index(found.label)
        after = []
        for place in extremes(found):
            token = found.tokens[place]
            cut = text[: token.start] + UNKNOWN * len(token.text) + text[token.end :]
            after.append(score_of(tiny, tensors_of(tiny, cut), winner))
        lower.append(after[0] < after[1])
    assert np.mean(lower) > 0.9


def test_maps_are_of_every_layer_and_head_and_rollout_is_shared_out(tiny: Trained) -> None:
    found = explain(tiny, {"text": "质量很好，值得购买"})
    size = len(found.tokens)
    assert [part.shape for part in found.attention] == [(2, size, size)] * 2
    for part in found.attention:
        np.testing.assert_allclose(part.sum(-1), 1, rtol=1e-5)
    assert sum(token.rollout or 0.0 for token in found.tokens) == pytest.approx(1)


def test_a_text_that_is_too_long_keeps_its_head_and_tail_and_the_middle_counts_as_rest(tiny: Trained) -> None:
    text = "质量很好，" * 4 + "非常失望，" * 40 + "值得购买，" * 4
    found = explain(tiny, {"text": text})
    normal = normalize(text)
    assert len(found.tokens) == tiny.encoder.max_tokens
    assert found.tokens[0].start == 0 and found.tokens[-1].end == len(normal)
    assert found.rest != 0.0 and abs(found.residual) < 0.01 * max(1.0, abs(found.score))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "parts"), [({"deep_weight": 0.0}, {NGRAMS}), ({"wide": {"enabled": False}}, {TRANSFORMER})]
)
def test_a_model_of_one_branch_is_explained_by_that_branch(
    change: dict[str, object],
    parts: set[str],
    train_tiny: Callable[[Path, Mapping[str, object]], Trained],
    tmp_path: Path,
) -> None:
    found = explain(train_tiny(tmp_path, change), {"text": "质量很好，值得购买"})
    assert all(set(token.parts) == parts for token in found.tokens)
    assert bool(found.attention) == (TRANSFORMER in parts)
    assert abs(found.residual) < 0.01


def test_ngrams_are_found_where_they_stand() -> None:
    features = fit_ngrams(["ab a", "aab", "aab"], max_ngram=3, min_rows=2)
    names = {"a": 0, "b": 0, "aa": 0, "ab": 0, "aab": 0}
    for name in names:
        ids, _ = features.encode([name])
        parts = [features.encode([part])[0].values.tolist() for part in (name[:-1], name[1:]) if part]
        (names[name],) = set(ids.values.tolist()) - {number for part in parts for number in part}
    text = "aaab b"
    expected = {(names[n], i, i + len(n)) for n in names for i in range(len(text)) if text.startswith(n, i)}
    assert set(map(tuple, ngram_spans(text, features).tolist())) == expected
    assert ngram_spans("", features).shape == (0, 3)


def test_other_scenarios_say_that_they_are_not_explained_yet() -> None:
    with pytest.raises(ConfigError, match="can't be explained yet") as error:
        load_explainer("translation")
    assert "text-classification" in error.value.expected
