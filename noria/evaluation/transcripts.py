"""How near transcripts are to what was said, as counts a row, so that a bootstrap resamples rows.

The error rate of N rows is the sum of their edits over the sum of their lengths: by words WER, by
characters CER (Levenshtein 1966, "Binary codes capable of correcting deletions, insertions, and reversals").
Shapes: R sets of weights, N rows.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from noria.evaluation.judged import MOST_FREQUENT, Judged, Slices, ids_of, slices_of
from noria.evaluation.metrics import Metric
from noria.scenarios.base import Row

WORD_EDITS, WORDS, CHAR_EDITS, CHARS, EXACT = range(5)
"""Columns of `Judged.outputs`."""
SAID, HEARD, SPEAKER, CONFIDENCE = "said", "heard", "speaker", "confidence"
"""Columns for people."""
_MOST_SPEAKERS = 40
_WORST = 50


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Least number of substitutions, insertions and deletions that make one of the other."""
    previous = list(range(len(heard) + 1))
    for row, one in enumerate(said, 1):
        current = [row]
        for column, other in enumerate(heard, 1):
            substituted = previous[column - 1] + (one != other)
            current.append(min(substituted, previous[column] + 1, current[-1] + 1))
        previous = current
    return previous[-1]


def counts(said: str, heard: str) -> tuple[int, int, int, int, int]:
    """What the metrics are made of, in the order of the columns."""
    words, heard_words = said.split(), heard.split()
    return edits(words, heard_words), len(words), edits(said, heard), len(said), int(said == heard)


def word_accuracy(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """1 - WER; below 0 where more words were wrongly heard than said."""
    return np.asarray(1 - _rate(judged, weights_RN, WORD_EDITS, WORDS))


def character_error_rate(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Edits of characters over characters said."""
    return _rate(judged, weights_RN, CHAR_EDITS, CHARS)


def exact_match(judged: Judged, weights_RN: np.ndarray) -> np.ndarray:
    """Share of transcripts without a fault."""
    return np.asarray(weights_RN @ judged.outputs[:, EXACT] / weights_RN.sum(axis=1))


METRICS: Mapping[str, Metric] = {
    "word_accuracy": word_accuracy,
    "character_error_rate": character_error_rate,
    "exact_match": exact_match,
}


def judge_transcripts(
    rows: Sequence[Row], *, said: Sequence[str], heard: Sequence[str], confidence: Sequence[float], slices: Slices
) -> Judged:
    """Set what was heard beside what was said; the trivial answer is the most frequent transcript."""
    ((most_frequent, _),) = Counter(said).most_common(1)
    outputs = np.array([counts(one, other) for one, other in zip(said, heard, strict=True)], np.float64)
    trivial = np.array([counts(one, most_frequent) for one in said], np.float64)
    speakers = [str(row.get("speaker") or "") for row in rows]
    groups = slices_of(rows, slices)
    if len(set(speakers)) > _MOST_SPEAKERS:  # a picture of hundreds says nothing
        groups = {name: member for name, member in groups.items() if not name.startswith("speaker ")}
    return Judged(
        ids_of(rows),
        targets=outputs[:, WORDS].astype(np.int64),
        outputs=outputs,
        labels=(),
        slices=groups,
        metrics=METRICS,
        trivial=trivial,
        trivial_name=MOST_FREQUENT,
        columns={SAID: said, HEARD: heard, SPEAKER: speakers, CONFIDENCE: confidence},
    )


def write_transcript_report(judged: Judged, origins: Sequence[str], directory: Path) -> None:
    """Write `wer_by_speaker.png`, `misheard.csv` (which for which, how often) and `worst.csv` (row by row)."""
    said, heard, speakers, sure = (judged.columns[name] for name in (SAID, HEARD, SPEAKER, CONFIDENCE))
    wrong = np.flatnonzero(judged.outputs[:, EXACT] == 0).tolist()
    worst = sorted(wrong, key=lambda i: (-judged.outputs[i, CHAR_EDITS] / judged.outputs[i, CHARS], judged.ids[i]))
    with (directory / "worst.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["said", "heard", "speaker", "confidence", "edits", "origin", "id"])
        for i in worst[:_WORST]:
            edited = int(judged.outputs[i, CHAR_EDITS])
            writer.writerow([said[i], heard[i], speakers[i], f"{sure[i]:.3f}", edited, origins[i], judged.ids[i]])
    pairs = Counter((said[i], heard[i]) for i in wrong)
    with (directory / "misheard.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["said", "heard", "rows"])
        writer.writerows((*pair, count) for pair, count in pairs.most_common(_WORST))
    draw_error_rates(judged, directory / "wer_by_speaker.png")


def draw_error_rates(judged: Judged, path: Path) -> None:
    """Word error rate of every speaker, the worst first, with the words behind it."""
    from matplotlib.figure import Figure

    from noria.evaluation.pictures import BLUE, GREY, RED, save_figure

    speakers = np.array([speaker or "(unknown)" for speaker in judged.columns[SPEAKER]])
    rates = {}
    for speaker in sorted(set(speakers)):
        part = judged.outputs[speakers == speaker]
        rates[speaker] = (part[:, WORD_EDITS].sum() / max(part[:, WORDS].sum(), 1), int(part[:, WORDS].sum()))
    shown = sorted(rates, key=lambda speaker: (-rates[speaker][0], speaker))[:_MOST_SPEAKERS]
    overall = judged.outputs[:, WORD_EDITS].sum() / judged.outputs[:, WORDS].sum()
    figure = Figure(figsize=(7, 0.32 * len(shown) + 1.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(shown))[::-1]
    bars = [100 * rates[speaker][0] for speaker in shown]
    axes.barh(places, bars, color=[RED if bar > 200 * overall else BLUE for bar in bars])
    axes.axvline(100 * overall, color=GREY, linestyle="--", label=f"all rows {100 * overall:.1f} %")
    axes.set_yticks(places, [f"{speaker} ({rates[speaker][1]:,} words)" for speaker in shown], parse_math=False)
    more = f"; {len(rates) - len(shown):,} better ones left out" if len(rates) > len(shown) else ""
    axes.set(xlabel="word error rate, %", title=f"By speaker; red is more than twice the average{more}")
    axes.set_xlim(0, max(1.0, 1.1 * max(bars)))
    axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)


def _rate(judged: Judged, weights_RN: np.ndarray, edited: int, length: int) -> np.ndarray:
    return np.asarray((weights_RN @ judged.outputs[:, edited]) / np.maximum(weights_RN @ judged.outputs[:, length], 1))
