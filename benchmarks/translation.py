"""Quality of translation against a translation memory, on sources that no training row has.

    python -m benchmarks.translation WORKSPACE...

takes the last run of each workspace of `translation` (`noria init DIR --scenario translation && noria run -C
DIR`): its bundle, its split, and calls it by its `name`. The peer is what translators use without a
model: of all training sources the nearest to a validation source by chrF, and its translation. Both
answer the same rows.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import scipy.sparse as sp

from benchmarks.results import Row, write_results
from noria.artifacts import read_artifact
from noria.config import EvaluateConfig
from noria.data import translation
from noria.data.pair_encoder import PairEncoder
from noria.data.rows import read_rows
from noria.evaluation.bootstrap import paired_difference
from noria.evaluation.judged import Judged, read_validation
from noria.evaluation.metrics import value
from noria.evaluation.translation import METRICS, BleuTokens, judge_translations
from noria.serving.bundle import open_bundle
from noria.serving.predictor import Predictor
from noria.workspace import Workspace

_ORDERS = 6
_BETA = 2
MEMORY = "translation memory (nearest training source by chrF)"


class TranslationMemory:
    """Training pairs, found by their sources.

    Shapes: R training rows, G distinct n-grams of characters.
    """

    def __init__(self, sources: list[str], targets: list[str]) -> None:
        self._targets = targets
        self._ids: list[dict[str, int]] = [{} for _ in range(_ORDERS)]
        self._counts: list[sp.csr_matrix] = [
            self._matrix([_ngrams(source, order) for source in sources], order) for order in range(1, _ORDERS + 1)
        ]
        self._sizes = [np.asarray(counts.sum(axis=1)).ravel() for counts in self._counts]

    def answer(self, source: str) -> str:
        """The translation of the nearest source (chrF2 with the query as reference); of equals, the first."""
        precision, recall = np.zeros(len(self._targets)), np.zeros(len(self._targets))
        num_orders = np.zeros(len(self._targets))
        for order in range(1, _ORDERS + 1):
            wanted = _ngrams(source, order)
            total, sizes = wanted.total(), self._sizes[order - 1]
            both = self._both(wanted, order)
            counted = (sizes > 0) & (total > 0)
            precision += np.where(counted, both / np.maximum(sizes, 1), 0)
            recall += np.where(counted, both / max(total, 1), 0)
            num_orders += counted
        precision, recall = precision / np.maximum(num_orders, 1), recall / np.maximum(num_orders, 1)
        f_score = (1 + _BETA**2) * precision * recall / np.maximum(_BETA**2 * precision + recall, 1e-12)
        return self._targets[int(f_score.argmax())]

    def _both(self, wanted: Counter[str], order: int) -> np.ndarray:
        """n-grams that each training source shares with the query, each as often as both have it, (R)."""
        ids = self._ids[order - 1]
        known = [(ids[gram], count) for gram, count in wanted.items() if gram in ids]
        if not known:
            return np.zeros(len(self._targets))
        columns, counts = zip(*known, strict=True)
        part = self._counts[order - 1][:, list(columns)].tocsc()
        part.data = np.minimum(part.data, np.repeat(counts, np.diff(part.indptr)))
        return np.asarray(part.sum(axis=1)).ravel()

    def _matrix(self, rows: list[Counter[str]], order: int) -> sp.csc_matrix:
        ids = self._ids[order - 1]
        for row in rows:
            for gram in row:
                ids.setdefault(gram, len(ids))
        pairs = [(i, ids[gram], count) for i, row in enumerate(rows) for gram, count in row.items()]
        at, columns, counts = (np.array(part) for part in zip(*pairs, strict=True)) if pairs else ([], [], [])
        return sp.csc_matrix((counts, (at, columns)), shape=(len(rows), max(len(ids), 1)), dtype=np.float64)


def _ngrams(text: str, order: int) -> Counter[str]:
    letters = "".join(text.split())
    return Counter(letters[i : i + order] for i in range(len(letters) - order + 1))


def judged_by_both(workspace: Workspace) -> tuple[Judged, Judged, int]:
    """The bundle's answers, the memory's on the same rows, and the number of training pairs."""
    bundle = open_bundle(workspace.bundle)
    encoder = bundle.encoder
    assert isinstance(encoder, PairEncoder)
    rows = read_validation(workspace.splits)
    ours = bundle.scenario.judge(rows, Predictor(bundle, workers=2).outputs(rows), encoder)
    training = [row for row in read_rows(workspace.splits / "train") if row["parent_id"] is None]
    memory = TranslationMemory([str(row["source"]) for row in training], [str(row["target"]) for row in training])
    theirs = judge_translations(
        rows,
        [memory.answer(str(row["source"])) for row in rows],
        tokens=cast("BleuTokens", encoder.bleu_tokens),
        slices=translation.slices,
        trivial_name="",
    )
    return ours, theirs, len(training)


def compare(workspace: Workspace) -> list[Row]:
    """One row a metric, and the time of one answer."""
    ours, theirs, num_training = judged_by_both(workspace)
    facts = read_artifact(workspace.bundle).facts
    name = facts["name"]
    results = []
    for metric in ("bleu", "chrf", "placeholders_kept"):
        gain = paired_difference(METRICS[metric], ours, theirs, config=EvaluateConfig(), seed=1)
        both = [round(value(METRICS[metric], judged), 4) for judged in (ours, theirs)]
        print(f"{name}, {metric}: {both[0]:.4f} against {both[1]:.4f}: {gain.points()}")
        claim = (
            f"{name}: {metric.replace('_', ' ')} on {ours.num_rows:,} unseen sources, trained on {num_training:,} pairs"
        )
        results.append(Row(claim, "fraction", both[0], peer=MEMORY, theirs=both[1], bar=1.0))
    latency = cast("dict[str, float]", facts["latency_ms"])
    claim = f"{name}: p50 of one row, {facts['candidate']}, one thread"
    return [*results, Row(claim, "ms", latency["rows_1"], higher_is_better=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspaces", type=Path, nargs="+", metavar="WORKSPACE")
    workspaces = [Workspace.at(path) for path in parser.parse_args().workspaces]
    if len({workspace.config.name for workspace in workspaces}) < len(workspaces):
        parser.error("the workspaces need names of their own (`name` in params.yaml)")
    results = [row for workspace in workspaces for row in compare(workspace)]
    print(write_results("translation", results, packages=("torch", "onnxruntime", "tokenizers")))


if __name__ == "__main__":
    main()
