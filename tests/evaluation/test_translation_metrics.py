"""BLEU and chrF are those of sacrebleu, on the whole and on any resample."""

import random

import numpy as np
import pytest

from noria.evaluation.translation import bleu_of, chrf_of, counts_of, words

sacrebleu = pytest.importorskip("sacrebleu")
from sacrebleu.metrics import BLEU, CHRF  # noqa: E402

ENGLISH = ["The cat, on the mat!", "it's 3.5-fold (or 2,000)", "", "a", "Save <b>%(name)s</b> & go on", "x" * 40]
CHINESE = ["保存 %(name)s 的页面。", "“文件”已删除，共 3 个", "好", "", "Django 管理器—2.0", "①②③ ㈱ ﹁引﹂ 〇一"]


def corpus(texts: list[str], *, seed: int) -> tuple[list[str], list[str]]:
    """Answers that share more or less with their references."""
    draw = random.Random(seed)
    references = [" ".join(draw.sample(texts, 2)) for _ in range(40)] + texts
    answers = ["".join(c for c in text if draw.random() < 0.9) for text in references]
    answers[0], answers[1] = "", references[1]
    return answers, references


@pytest.mark.parametrize(("tokens", "texts"), [("13a", ENGLISH), ("zh", CHINESE), ("char", CHINESE)])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_sacrebleu(tokens, texts, seed):
    answers, references = corpus(texts, seed=seed)
    counts = counts_of(answers, references, references, tokens)
    weights_RN = np.random.default_rng(seed).multinomial(len(answers), np.ones(len(answers)) / len(answers), size=4)
    for weights_N in (np.ones(len(answers), int), *weights_RN):
        drawn = [i for i, weight in enumerate(weights_N) for _ in range(weight)]
        said, right = [answers[i] for i in drawn], [[references[i] for i in drawn]]
        sums = (weights_N @ counts)[None]
        assert 100 * bleu_of(sums)[0] == pytest.approx(BLEU(tokenize=tokens).corpus_score(said, right).score, abs=1e-9)
        assert 100 * chrf_of(sums)[0] == pytest.approx(CHRF().corpus_score(said, right).score, abs=1e-9)


@pytest.mark.parametrize("pair", [("a b c", "x y z"), ("", "a"), ("a", ""), ("a b", "a b"), ("a b c d e", "a b x d e")])
def test_so_are_scores_of_a_few_words(pair):
    counts = counts_of([pair[0]], [pair[1]], [pair[1]], "13a")
    expected = BLEU(tokenize="13a").corpus_score([pair[0]], [[pair[1]]]).score
    assert 100 * bleu_of(counts)[0] == pytest.approx(expected, abs=1e-9)
    expected = CHRF().corpus_score([pair[0]], [[pair[1]]]).score
    assert 100 * chrf_of(counts)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("tokens", ["13a", "zh"])
def test_words_are_those_of_sacrebleu_for_every_character(tokens):
    every = [chr(code) for code in (*range(32, 0xD800), *range(0xE000, 0x11000), *range(0x20000, 0x20100))]
    theirs = BLEU(tokenize=tokens).tokenizer
    lines = ["".join(every[start : start + 97]) for start in range(0, len(every), 97)]
    lines += ["a".join(every[start : start + 97]) for start in range(0, len(every), 97)]
    for line in lines:
        assert words(line, tokens) == theirs(line.rstrip()).split()
