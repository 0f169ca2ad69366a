"""BLEU and chrF as sacrebleu defines them, from counts a row: any weighting of rows is then one product.

BLEU: Papineni et al. 2002; Post 2018, "A call for clarity in reporting BLEU scores" (sacrebleu 2: `13a`,
`zh` or `char` tokens, exponential smoothing). chrF: Popović 2015 (sacrebleu's chrF2: characters 1 to 6
without white space, beta 2). Both are fractions here, where sacrebleu says percent.

Shapes: R sets of weights, N rows, G n-gram orders.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from noria.data.placeholders import placeholders
from noria.evaluation.judged import Judged, Slices, ids_of, slices_of
from noria.evaluation.metrics import Metric
from noria.scenarios.base import Row

BleuTokens = Literal["13a", "zh", "char"]

_WORDS, _CHARS = 4, 6
_BETA = 2
_BLEU = slice(0, 2 + 2 * _WORDS)
"""Lengths of answer and reference, then matches by order, then n-grams of the answer by order."""
_CHRF = slice(_BLEU.stop, _BLEU.stop + 3 * _CHARS)
"""n-grams of the answer, of the reference, and of both, by order."""
_KEPT, _EXACT = _CHRF.stop, _CHRF.stop + 1
NUM_COUNTS = _EXACT + 1

_CHINESE = re.compile(
    "([\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\u2001-\u2a6d\u2f81-\u2fa1\uff00-\uffef"
    "\u2e80-\u2eff\u3000-\u303f\u31c0-\u31ef\u2f00-\u2fdf\u2ff0-\u2fff\u3100-\u312f\u31a0-\u31bf\ufe10-\ufe1f\ufe30-\ufe4f"
    "\u2600-\u27bf\u3200-\u33ff])"
)
"""What sacrebleu separates in Chinese. U+2001 to U+2A6D and U+2F81 to U+2FA1 are what its bounds `\\u20000` and
`\\u2f800` come to: Python reads each as two characters."""
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def words(text: str, tokens: BleuTokens) -> list[str]:
    """What BLEU counts as words."""
    if tokens == "char":
        return [letter for letter in text.rstrip() if not letter.isspace()]
    line = text.rstrip()
    if tokens == "zh":
        line = _CHINESE.sub(r" \1 ", line.strip())
    else:
        line = line.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
        for entity, letter in _ENTITIES:
            line = line.replace(entity, letter)
        line = f" {line} "
    for pattern, split in _SPLITS:
        line = pattern.sub(split, line)
    return line.split()


def counts(answer: str, reference: str, source: str, tokens: BleuTokens) -> np.ndarray:
    """What the metrics are made of for one row, float64 (NUM_COUNTS)."""
    said, right = words(answer, tokens), words(reference, tokens)
    found = np.zeros(NUM_COUNTS)
    found[:2] = len(said), len(right)
    for order in range(1, _WORDS + 1):
        ours = Counter(tuple(said[i : i + order]) for i in range(len(said) - order + 1))
        theirs = Counter(tuple(right[i : i + order]) for i in range(len(right) - order + 1))
        found[1 + order] = (ours & theirs).total()
        found[1 + _WORDS + order] = ours.total()
    found[_CHRF] = _character_counts("".join(answer.split()), "".join(reference.split()))
    found[_KEPT] = placeholders(answer) == placeholders(source)
    found[_EXACT] = answer == reference
    return found


def _character_counts(answer: str, reference: str) -> np.ndarray:
    """By order: n-grams of the answer (0 where the reference has none), of the reference, of both."""
    found = np.zeros((_CHARS, 3))
    for order in range(1, _CHARS + 1):
        ours = Counter(answer[i : i + order] for i in range(len(answer) - order + 1))
        theirs = Counter(reference[i : i + order] for i in range(len(reference) - order + 1))
        found[order - 1] = ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()
    return found.ravel()


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """BLEU from summed counts (R, NUM_COUNTS), float64 (R)."""
    lengths, matched, tried = sums[:, :2], sums[:, 2 : 2 + _WORDS], sums[:, 2 + _WORDS : 2 + 2 * _WORDS]
    missed = (matched == 0) & (tried > 0)
    smoothed = 1 / np.maximum(2.0 ** np.cumsum(missed, axis=1) * tried, 1e-12)  # halved at every order without a match
    precision = np.where(missed, smoothed, matched / np.maximum(tried, 1))
    mean = np.exp(np.log(np.maximum(precision, 1e-300)).mean(axis=1))
    said, right = lengths[:, 0], lengths[:, 1]
    short = np.exp(np.minimum(1 - right / np.maximum(said, 1e-12), 0))
    usable = (matched.sum(axis=1) > 0) & (tried > 0).all(axis=1)
    return np.where(usable, short * mean, 0.0)


def chrf_of(sums: np.ndarray) -> np.ndarray:
    """chrF2 from summed counts (R, NUM_COUNTS), float64 (R)."""
    said, right, both = np.moveaxis(sums[:, _CHRF].reshape(-1, _CHARS, 3), 2, 0)
    counted = (said > 0) & (right > 0)
    num_orders = np.maximum(counted.sum(axis=1), 1)
    precision = (both / np.maximum(said, 1e-12) * counted).sum(axis=1) / num_orders
    recall = (both / np.maximum(right, 1e-12) * counted).sum(axis=1) / num_orders
    factor = _BETA**2
    return np.asarray((1 + factor) * precision * recall / np.maximum(factor * precision + recall, 1e-300))


def bleu(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Corpus BLEU."""
    return bleu_of(weights_RN @ judged.outputs)


def chrf(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Corpus chrF2."""
    return chrf_of(weights_RN @ judged.outputs)


def placeholders_kept(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of the answers that have exactly the placeholders and tags of their source."""
    return np.asarray(weights_RN @ judged.outputs[:, _KEPT] / weights_RN.sum(axis=1))


def exact(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of the answers that are the reference, letter by letter."""
    return np.asarray(weights_RN @ judged.outputs[:, _EXACT] / weights_RN.sum(axis=1))


METRICS: Mapping[str, Metric] = {
    "bleu": bleu,
    "chrf": chrf,
    "placeholders_kept": placeholders_kept,
    "exact": exact,
}


def counts_of(
    answers: Sequence[str], references: Sequence[str], sources: Sequence[str], tokens: BleuTokens
) -> np.ndarray:
    """`counts` of many rows, float64 (N, NUM_COUNTS)."""
    return np.array([counts(*row, tokens) for row in zip(answers, references, sources, strict=True)])


def judge_translations(
    rows: Sequence[Row], answers: Sequence[str], *, tokens: BleuTokens, slices: Slices, trivial_name: str
) -> Judged:
    """Set the answer to each row's `source` beside its `target`; the trivial answer is the source."""
    sources, references = ([str(row[column]) for row in rows] for column in ("source", "target"))
    return Judged(
        ids_of(rows),
        targets=np.zeros(len(rows)),
        outputs=counts_of(answers, references, sources, tokens),
        labels=(),
        slices=slices_of(rows, slices),
        metrics=METRICS,
        trivial=counts_of(sources, references, sources, tokens),
        trivial_name=trivial_name,
        columns={"source": sources, "reference": references, "translation": list(answers)},
    )
