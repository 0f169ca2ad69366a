"""Quality of question answering against two answers by words alone, on documents that no training row is of.

    python -m benchmarks.question_answering WORKSPACE

takes the last run of a workspace of `question-answering` (`noria init DIR --scenario question-answering &&
noria run -C DIR`): its bundle, its split. All answer the same rows. The peers, each helped where it can be:

sliding window   Richardson et al. 2013 (MCTest), algorithm 1 with the distance of algorithm 2, as SQuAD's paper
                 uses it: a candidate counts by the words that a window as long as question and candidate
                 together shares with both, each word by log(1 + 1 / its count in the context). Candidates are
                 spans between signs of the sentences that share most with the question, as SQuAD's paper has it.
TF-IDF           the sentence with the highest TF-IDF cosine with the question (document frequencies from the
                 training contexts), and in it or the next two the span between signs that is nearest behind the
                 question's rarest word there.

Both are told how many words training answers have to questions of the same wording (the words that one training
question in two hundred has), don't count the name that a context begins with, pass over spans with words of the
question, and weigh length against their own score by a factor that is the best of five on a thousand training
rows. They don't refuse, so answerable rows are compared alone too.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import cast

from benchmarks.results import Row as Claim
from benchmarks.results import write_results
from noria.artifacts import read_artifact
from noria.config import EvaluateConfig
from noria.data.rows import read_rows
from noria.evaluation.answers import METRICS, f1_of, judge_answers
from noria.evaluation.bootstrap import paired_difference
from noria.evaluation.judged import Judged, read_validation
from noria.evaluation.metrics import value
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.workspace import Workspace

Row = Mapping[str, object]
WINDOW, TF_IDF = "sliding window (Richardson et al. 2013)", "TF-IDF sentence, best span"
_WORD = re.compile(r"\w+|[^\w\s]")
_SENTENCE_END = re.compile(r"\n|(?<=[.!?])\s+")
_BREAKS = frozenset("().,;:=")
_MOST_WORDS = 24
_USUAL_SHARE = 1 / 200
_TUNING_ROWS = 1_000
_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Piece:
    """A part of a context: its words in lower case, and where they are."""

    words: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def part(self, first: int, last: int) -> Piece:
        inside = slice(first, last)
        return Piece(self.words[inside], self.starts[inside], self.ends[inside])


def words_of(text: str, *, offset: int = 0) -> Piece:
    found = list(_WORD.finditer(text))
    return Piece(
        tuple(_stem(match[0].lower()) for match in found),
        tuple(offset + match.start() for match in found),
        tuple(offset + match.end() for match in found),
    )


def _stem(word: str) -> str:
    """Without the ending of a plural or of a verb: `returns` is `return`."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def asked_of(row: Row) -> tuple[str, ...]:
    """The words of a question without those of the name that its context begins with: every part would share them."""
    subject = set(words_of(str(row["context"]).partition("(")[0]).words)
    words = words_of(str(row["question"])).words
    return tuple(word for word in words if word not in subject) or words


def sentences_of(context: str) -> list[Piece]:
    """Lines and sentences."""
    pieces, start = [], 0
    for match in [*_SENTENCE_END.finditer(context), None]:
        end = match.start() if match else len(context)
        piece = words_of(context[start:end], offset=start)
        if piece.words:
            pieces.append(piece)
        start = match.end() if match else end
    return pieces


def candidates_of(sentence: Piece) -> list[Piece]:
    """Spans between signs: chunks, and runs of neighbouring chunks with the signs between them."""
    cuts = [i for i, word in enumerate(sentence.words) if word in _BREAKS]
    starts, ends = [0, *(i + 1 for i in cuts)], [*cuts, len(sentence.words)]
    spans = {
        (first, last)
        for first in starts
        for last in ends
        if 0 < last - first <= _MOST_WORDS and not {sentence.words[first], sentence.words[last - 1]} & _BREAKS
    }
    return [sentence.part(*span) for span in sorted(spans)]


class Lengths:
    """How many words training answers have, by the wording of their question."""

    def __init__(self, rows: Sequence[Row]) -> None:
        asked = Counter(word for row in rows for word in set(words_of(str(row["question"])).words))
        self._usual = {word for word, count in asked.items() if count >= _USUAL_SHARE * len(rows)}
        by_wording: dict[tuple[str, ...], list[int]] = {}
        for row in rows:
            if row["answer"]:
                count = len(words_of(str(row["answer"])).words)
                for wording in (self._wording(row), ()):
                    by_wording.setdefault(wording, []).append(count)
        self._median = {wording: median(counts) for wording, counts in by_wording.items()}

    def of(self, row: Row) -> float:
        return self._median.get(self._wording(row), self._median[()])

    def _wording(self, row: Row) -> tuple[str, ...]:
        return tuple(word for word in words_of(str(row["question"])).words if word in self._usual)

    def distance(self, row: Row, candidate: Piece) -> float:
        return abs(math.log(len(candidate.words) / self.of(row)))


def best_factor(answer: Callable[[Row, float], str], rows: Sequence[Row]) -> float:
    """Of five factors the one with the best F1 on some rows that have an answer."""
    tried = [row for row in rows if row["answer"]][:_TUNING_ROWS]

    def quality(factor: float) -> float:
        return sum(f1_of(answer(row, factor), str(row["answer"])) for row in tried)

    return max(_FACTORS, key=quality)


class SlidingWindow:
    """See the module."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._lengths = Lengths(rows)
        self.factor = best_factor(self.answer, rows)

    def answer(self, row: Row, factor: float | None = None) -> str:
        context = str(row["context"])
        text = words_of(context).words
        question = set(asked_of(row))
        counts = Counter(text)
        weight = {word: math.log(1 + 1 / count) for word, count in counts.items()}
        sentences = sentences_of(context)
        overlap = [sum(weight[word] for word in question & set(piece.words)) for piece in sentences]
        if not sentences:
            return ""
        best = max(overlap)
        likely = [piece for piece, shared in zip(sentences, overlap, strict=True) if shared >= 0.9 * best]
        options = [c for piece in likely for c in candidates_of(piece)]
        options = [c for c in options if not named(question) & set(c.words)] or options
        if not options:
            return ""
        factor = self.factor if factor is None else factor
        gain = {c: self._score(c, text, question, weight) - factor * self._lengths.distance(row, c) for c in options}
        chosen = max(options, key=lambda c: gain[c])
        return context[chosen.starts[0] : chosen.ends[-1]]

    @staticmethod
    def _score(candidate: Piece, text: Sequence[str], question: set[str], weight: Mapping[str, float]) -> float:
        wanted = question | set(candidate.words)
        gains = [weight[word] if word in wanted else 0.0 for word in text]
        size = min(len(question) + len(candidate.words), len(gains))
        total = best = sum(gains[:size])
        for place in range(size, len(gains)):
            total += gains[place] - gains[place - size]
            best = max(best, total)
        return best - _distance(candidate, text, question)


def named(words: Iterable[str]) -> set[str]:
    """Words of letters or digits."""
    return {word for word in words if word.isalnum() or "_" in word}


def _distance(candidate: Piece, text: Sequence[str], question: set[str]) -> float:
    """Words between the nearest of a question's words and of the candidate's that are not in the question."""
    asked = [i for i, word in enumerate(text) if word in question and word.isalnum()]
    told = [i for i, word in enumerate(text) if word in set(candidate.words) - question]
    if not asked or not told:
        return 1.0
    return (min(abs(a - b) for a in asked for b in told) + 1) / max(len(text) - 1, 1)


class TfIdf:
    """See the module."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._lengths = Lengths(rows)
        contexts = {str(row["context"]) for row in rows}
        frequency = Counter(word for context in contexts for word in set(words_of(context).words))
        self._idf = {word: math.log(len(contexts) / count) for word, count in frequency.items()}
        self._unseen = math.log(max(len(contexts), 2))
        self.factor = best_factor(self.answer, rows)

    def answer(self, row: Row, factor: float | None = None) -> str:
        context = str(row["context"])
        asked = self._vector(asked_of(row))
        sentences = sentences_of(context)
        if not sentences:
            return ""
        sentence = max(sentences, key=lambda piece: self._cosine(asked, self._vector(piece.words)))
        place = sentences.index(sentence)
        around = sentences[place : place + 3]  # a title, a name and its type, a description
        options = [c for piece in around for c in candidates_of(piece) if not asked.keys() & set(c.words)]
        options = options or candidates_of(sentence) or [sentence]
        anchor = self._anchor(asked, around)
        factor = self.factor if factor is None else factor

        def cost(candidate: Piece) -> float:
            gap = candidate.starts[0] - anchor
            return math.log1p(abs(gap)) + (gap < 0) + factor * self._lengths.distance(row, candidate)

        chosen = min(options, key=cost)
        return context[chosen.starts[0] : chosen.ends[-1]]

    def _anchor(self, asked: Mapping[str, float], around: Sequence[Piece]) -> int:
        """Where the question's rarest word that is there ends, or the beginning."""
        found = [
            (asked[w], -end) for piece in around for w, end in zip(piece.words, piece.ends, strict=True) if w in asked
        ]
        return -max(found)[1] if found else around[0].starts[0]

    def _vector(self, words: Sequence[str]) -> dict[str, float]:
        counts = Counter(word for word in words if word in named(words))
        return {word: count * self._idf.get(word, self._unseen) for word, count in counts.items()}

    @staticmethod
    def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
        product = sum(weight * other[word] for word, weight in one.items() if word in other)
        sizes = [math.sqrt(sum(weight**2 for weight in vector.values())) for vector in (one, other)]
        return product / max(sizes[0] * sizes[1], 1e-12)


def judged_by_all(workspace: Workspace) -> tuple[Judged, dict[str, Judged], int]:
    """The bundle's answers, the peers' on the same rows, and the number of training rows."""
    bundle = open_bundle(workspace.bundle)
    rows = read_validation(workspace.splits)
    ours = bundle.scenario.judge(rows, Predictor(bundle, workers=2).outputs(rows), bundle.encoder)
    training = [row for row in read_rows(workspace.splits / "train") if row["parent_id"] is None]
    answers: dict[str, Callable[[Row], str]] = {
        WINDOW: SlidingWindow(training).answer,
        TF_IDF: TfIdf(training).answer,
    }
    sure = [1.0] * len(rows)
    theirs = {name: judge_answers(rows, [say(row) for row in rows], confidence=sure) for name, say in answers.items()}
    return ours, theirs, len(training)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    workspace = Workspace.at(parser.parse_args().workspace)
    ours, theirs, num_training = judged_by_all(workspace)
    answerable = ~ours.slices["no answer"]
    results = []
    for peer, judged in theirs.items():
        for rows, member in (("all", answerable | True), ("answerable", answerable)):
            for name in ("f1", "exact_match"):
                pair = ours.where(member), judged.where(member)
                gain = paired_difference(METRICS[name], *pair, config=EvaluateConfig(), seed=1)
                both = [round(value(METRICS[name], each), 4) for each in pair]
                print(f"{name}, {rows} rows: {both[0]:.4f} against {both[1]:.4f} of {peer}: {gain.points()}")
                claim = f"{name} on {pair[0].num_rows:,} {rows} rows of unseen documents, trained on {num_training:,}"
                results.append(Claim(claim, "fraction", both[0], peer=peer, theirs=both[1], bar=1.0))
    facts = read_artifact(workspace.bundle).facts
    latency = cast("dict[str, float]", facts["latency_ms"])
    claim = f"p50 of one window, {facts['candidate']}, one thread"
    results.append(Claim(claim, "ms", latency["rows_1"], higher_is_better=False))
    print(write_results("question_answering", results, packages=("torch", "onnxruntime", "tokenizers")))


if __name__ == "__main__":
    main()
